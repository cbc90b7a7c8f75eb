"""The console's pages beside a large control plane: 50,000 open alerts and a million accounts.

Each page is asked for in the process that serves it, so that a figure is the server's own time: database, templates and
all, without a network. Beside the time on the clock stands the CPU time, which other work on the machine does not
lengthen; a page waits for nothing but the disk. The traffic's figures are read once before, behind the pages.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dashboards.console.app import mount
from gateway.ledger import accounts, alerts, audit, enforcement, operators
from gateway.ledger.alerts import SEVERITIES
from gateway.ledger.database import Database, open_database
from gateway.ledger.identifiers import now, to_rfc3339, uuid7
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from gateway.settings import ModelSettings, Settings

WANTED_MS = 200.0
PASSWORD = "a bench has one operator"
BATCH = 20_000
CLOSED = 5_000
MEASURES = 2_000
ACTIVE = 20_000  # accounts with traffic, those of the alerts first


def main() -> None:
    """Fill a house, ask for every page, print a line for each and JSON as the last line."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        settings = Settings(data_dir=folder, models=(ModelSettings("teacher", backends=("http://127.0.0.1:9",)),))
        is_filled = (folder / "control.sqlite").exists()
        database = open_database(settings.database_url)
        if not is_filled:
            started = time.monotonic()
            fill(settings, database, arguments.alerts, arguments.accounts, arguments.requests)
            print(f"filled in {time.monotonic() - started:.0f} s", file=sys.stderr)
        app = FastAPI(openapi_url=None)
        mount(app, settings, database)
        found = {name: measure(client, path, arguments.rounds) for client, name, path in pages(app, database)}
        database.close()
    for name, times in found.items():
        print(f"{name:36} clock {times['clock_ms']:7.1f} ms   CPU {times['cpu_ms']:7.1f} ms")
    slowest = max(times["cpu_ms"] for times in found.values())
    sizes = {"alerts": arguments.alerts, "accounts": arguments.accounts, "requests": arguments.requests}
    print(json.dumps({**sizes, "pages": found, "slowest_cpu_ms": slowest, "within": slowest <= WANTED_MS}))


def fill(settings: Settings, database: Database, alert_count: int, account_count: int, requests: int) -> None:
    """Write accounts, alerts, measures and traffic, as many as are asked for."""
    draw = random.Random(5)
    with database.write() as connection:
        operators.create(connection, "bench", PASSWORD, "cli:bench")
        moment = now()
        for start in range(0, account_count, BATCH):
            rows = [vars(accounts.new(_name(place))) for place in range(start, min(start + BATCH, account_count))]
            connection.execute(sa.insert(accounts.table), rows)
        for start in range(0, alert_count + CLOSED, BATCH):
            places = range(start, min(start + BATCH, alert_count + CLOSED))
            connection.execute(sa.insert(alerts.table), [_alert(place, alert_count, draw) for place in places])
        rows = [_measure(place) for place in range(MEASURES)]
        connection.execute(sa.insert(enforcement.table), rows)
        for number in range(2000):
            audit.record(connection, "bench", "alert.assign", _name(number), after={"number": number})
    lake = Lake.of(settings)
    for start in range(0, requests, BATCH):
        lake.append(to_table([_request(place, moment, draw) for place in range(start, min(start + BATCH, requests))]))


def pages(app: FastAPI, database: Database) -> Iterator[tuple[TestClient, str, str]]:
    """Log in and yield every page: its name and its address."""
    client = TestClient(app, base_url="http://127.0.0.1:8081", headers={"accept": "text/html"})
    answer = client.post("/login", data={"name": "bench", "password": PASSWORD})
    assert answer.status_code == 200, answer.status_code
    with database.read() as connection:
        newest = alerts.every(connection, "open", limit=1)[0]
        oldest = connection.execute(
            sa.select(alerts.table.c.id).where(alerts.table.c.state == "open").order_by(alerts.table.c.opened).limit(1)
        ).scalar_one()
    addresses = {
        "queue": "/",
        "queue, its end": f"/?after={oldest}",
        "queue, severity": "/?severity=high",
        "queue, with me": "/?who=mine",
        "queue, text that many have": "/?q=came+back",
        "queue, text that none has": "/?q=nowhere+to+be+found",
        "queue, closed": "/?state=dismissed",
        "bulk, few": "/bulk?q=account-0000123",
        "bulk, all": "/bulk",
        "alert": f"/alerts/{newest.id}",
        "alert, from a narrow view": f"/alerts/{newest.id}?from=severity%3Dhigh%26q%3Dcame",
        "alert, what steps would have done": f"/alerts/{newest.id}/ladder",
        "accounts": "/accounts",
        "accounts, beyond those with traffic": f"/accounts?after=by-name:{_name(500_000)}",
        "accounts, text": "/accounts?q=account-05",
        "accounts, text that none has": "/accounts?q=nobody",
        "accounts by model": "/accounts?by=model",
        "account": f"/accounts/{newest.account}",
        "models": "/models",
        "snapshots": "/snapshots",
        "policies": "/policies",
        "audit": "/audit",
        "audit, text that none has": "/audit?q=nothing+at+all",
        "notifications": "/notifications",
    }
    for name, path in addresses.items():
        yield client, name, path


def measure(client: TestClient, path: str, rounds: int) -> dict[str, float]:
    """Ask for a page once for the caches, then a number of times; the medians in milliseconds."""
    clock, cpu = [], []
    for _ in range(rounds + 1):
        started, spent = time.perf_counter(), time.process_time()
        answer = client.get(path)
        clock.append((time.perf_counter() - started) * 1000)
        cpu.append((time.process_time() - spent) * 1000)
        assert answer.status_code == 200, f"{path}: {answer.status_code}"
    return {"clock_ms": round(statistics.median(clock[1:]), 1), "cpu_ms": round(statistics.median(cpu[1:]), 1)}


def _name(place: int) -> str:
    return f"account-{place:07d}"


def _alert(place: int, open_count: int, draw: random.Random) -> dict[str, Any]:
    opened = now() - timedelta(minutes=draw.uniform(1, 60 * 24 * 30))
    text = f"asked {place} different things in 7 days and came back to one {place % 40} times"
    reasons = [
        {"feature": name, "value": draw.random(), "own_baseline": None, "peer_median": draw.random(), "text": text}
        for name in ("unseen_share", "leaked_per_request", "single_share", "repeated_share", "logprobs_share")
    ]
    daily = [
        {"day": (opened - timedelta(days=back)).date().isoformat(), "requests": 40, "teacher_tokens": 9000}
        for back in range(14)
    ]
    evidence = {
        "requests": 500, "teacher_tokens": draw.randrange(10_000, 900_000), "cost": 10**9, "leaked_tokens": 5000,
        "examples": [uuid7() for _ in range(20)], "daily": daily, "members": [], "links": [], "set": None,
    }  # fmt: skip
    is_open = place < open_count
    return {
        "id": uuid7(), "account": _name(place), "severity": SEVERITIES[place % 3], "score": draw.random(),
        "state": "open" if is_open else "dismissed", "opened": opened, "updated": opened, "reasons": reasons,
        "evidence": evidence, "decided": None if is_open else now(), "decision": None if is_open else "dismiss",
        "operator": None if is_open else "bench", "note": None if is_open else "fine",
        "assignee": "bench" if place % 50 == 0 else None, "finding": None if is_open else "declared_use", "batch": None,
    }  # fmt: skip


def _measure(place: int) -> dict[str, Any]:
    moment = now()
    return {
        "id": uuid7(), "account": _name(place * 7), "action": ("suspend", "watch")[place % 2], "created": moment,
        "until": moment + timedelta(days=7), "operator": "bench", "note": "x", "decision": uuid7(),
    }  # fmt: skip


def _request(place: int, moment: Any, draw: random.Random) -> dict[str, Any]:
    tokens = draw.randrange(10, 800)
    return {
        "id": uuid7(), "time": to_rfc3339(moment - timedelta(hours=draw.expovariate(1 / 40))), "origin": "live",
        "account": _name(draw.randrange(ACTIVE)), "endpoint": "chat.completions", "model_requested": "auto",
        "model": "teacher", "model_role": "teacher", "route": {"reason": "no_student"}, "status": 200,
        "messages": [{"role": "user", "content": "What about basalt columns? " * 10}],
        "usage": {"input_tokens": 60, "output_tokens": tokens, "source": "exact"},
        "cost": tokens * 3000, "counterfactual_cost": tokens * 3000,
    }  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=50_000)
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="keep the house there, and use it again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
