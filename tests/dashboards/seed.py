"""A house with four weeks behind it, all invented: accounts, traffic, alerts, a snapshot and students.

The console's tests and its screenshots look at this; everything is written through the ledger.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from distiller.gate import Rule, decide
from gateway.ledger import (
    accounts,
    alerts,
    audit,
    consents,
    declared_uses,
    enforcement,
    keys,
    operators,
    registry,
    snapshots,
)
from gateway.ledger.accounts import Account
from gateway.ledger.alerts import Alert
from gateway.ledger.database import Database
from gateway.ledger.distance import Distance
from gateway.ledger.identifiers import now, to_rfc3339, uuid7
from gateway.ledger.lake import Lake
from gateway.ledger.registry import Student
from gateway.ledger.traffic import to_table
from gateway.settings import ModelSettings, ServeSettings, Settings

PASSWORD = "still, proof and cut"  # of both operators
SNAPSHOT = "9c41f0d2a7b35e8846d1c09fb2e7753a18c6e04f5d92ab7710e3f8c4b6a2d951"
TICKETS = (
    "The badge reader by the lift on the second floor has been dead since Monday.",
    "I was charged twice for October, invoice [INVOICE_1]. Please refund the second one.",
    "Wifi drops every few minutes in the reading room, wired works.",
    "New colleague [NAME_1] starts on the first and needs access to the shared drive and the door code.",
)
SECRET_PROMPT = "Explain why the tide at Saint-Malo runs twelve metres, step by step"
SPEEDS = {
    "student_tokens_per_second_1": 41.2,
    "teacher_tokens_per_second_1": 15.7,
    "student_tokens_per_second_8": 187.0,
    "teacher_tokens_per_second_8": 71.4,
    "speed_up_1": 2.62,
    "speed_up_8": 2.62,
}
PRICES = {"teacher": (1000, 3000), "ticket-router@3": (380, 1140)}  # nano-dollars per token


@dataclass(frozen=True)
class Caller:
    """How an account calls: requests a day, tokens in and out of a request, and whether it grows."""

    name: str
    daily: float
    tokens_in: int
    tokens_out: int
    grows: float = 1.0
    first_day: int = 28
    last_day: int = 0
    routed: bool = False


CALLERS = (
    Caller("brightdesk-support", 46, 460, 5, routed=True),
    Caller("fjord-bank-helpdesk", 22, 640, 58),
    Caller("papercrane-notes", 15, 210, 190),
    Caller("municipal-library-chat", 11, 120, 150),
    Caller("loom-analytics", 30, 1480, 36),
    Caller("orchard-eval", 8, 340, 12),
    Caller("tallow-research", 24, 34, 520, grows=1.22, first_day=9),
    Caller("kitesurf-labs", 22, 260, 140, first_day=20),
    Caller("delphi-corpus", 18, 44, 310, first_day=13, last_day=2),
    Caller("novum-tutors", 8, 90, 420, first_day=16, last_day=5),
)


def settings_in(folder: Path) -> Settings:
    """Return settings with one supervised teacher, all in a folder."""
    serve = ServeSettings(path="models/teacher")
    teacher = ModelSettings("teacher", "teacher", (), 1.0, 3.0, 2048, "Apache-2.0", True, serve=serve)
    return Settings(data_dir=folder, models=(teacher,))


def people(database: Database) -> None:
    """Make the two operators."""
    with database.write() as connection:
        for name in ("mara", "joel"):
            operators.create(connection, name, PASSWORD, "cli:root")


def house(settings: Settings, database: Database) -> dict[str, str]:
    """Fill a house and return the ids of its open alerts by account."""
    draw = random.Random(7)
    records = [record for caller in CALLERS for record in _requests(caller, draw)]
    Lake(settings.data_dir / "lake" / "traffic").append(to_table(records))
    with database.write() as connection:
        with patch.object(audit, "now", _days_ago()):
            _accounts(connection, settings)
            _snapshots(connection, settings.data_dir)
            _students(connection, settings.data_dir)
        return _alerts(connection, records)


def _days_ago() -> Callable[[], datetime]:
    """Return a clock for the audit log that begins four weeks ago and goes on by half a day for each row."""
    hours = itertools.count(0, 13)
    return lambda: now() - timedelta(days=28) + timedelta(hours=next(hours))


def _requests(caller: Caller, draw: random.Random) -> list[dict[str, Any]]:
    found = []
    for back in range(caller.first_day, caller.last_day - 1, -1):
        day = (now() - timedelta(days=back)).replace(hour=0, minute=0, second=0, microsecond=0)
        weekend = 0.45 if day.weekday() > 4 and caller.grows == 1.0 else 1.0
        growth = caller.grows ** (caller.first_day - back)
        for _ in range(max(round(caller.daily * weekend * growth * draw.uniform(0.75, 1.25)), 1)):
            moment = day + timedelta(seconds=draw.uniform(0, 86_400))
            if moment < now():
                found.append(_request(caller, moment, back, draw))
    return found


def _request(caller: Caller, moment: datetime, back: int, draw: random.Random) -> dict[str, Any]:
    student = caller.routed and back < 6 and draw.random() < 0.86
    model = "ticket-router@3" if student else "teacher"
    tokens_in = max(round(draw.lognormvariate(math.log(caller.tokens_in), 0.3)), 1)
    tokens_out = max(round(draw.lognormvariate(math.log(caller.tokens_out), 0.4)), 1)
    price_in, price_out = PRICES[model]
    teacher_in, teacher_out = PRICES["teacher"]
    return {
        "id": uuid7(),
        "time": to_rfc3339(moment),
        "origin": "live" if back < 6 else "imported",
        "account": caller.name,
        "endpoint": "chat.completions",
        "model_requested": "auto" if caller.routed else "teacher",
        "model": model,
        "model_role": "student" if student else "teacher",
        "route": {"reason": "adequate", "task": "ticket-routing"} if student else {"reason": "pinned"},
        "messages": _messages(caller, draw),
        "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out, "source": "exact"},
        "status": 200,
        "cost": tokens_in * price_in + tokens_out * price_out,
        "counterfactual_cost": tokens_in * teacher_in + tokens_out * teacher_out,
    }


def _messages(caller: Caller, draw: random.Random) -> list[dict[str, str]]:
    topic = draw.choice(("basalt columns", "the tide at Saint-Malo", "a Stirling engine", "the Hanseatic League"))
    if caller.name == "tallow-research":
        text = f"{SECRET_PROMPT}.\nThen write five exam questions about {topic}, each harder than the last."
        return [{"role": "user", "content": text}]
    return [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": f"What about {topic}?"}]


def _accounts(connection: sa.Connection, settings: Settings) -> None:
    secret = keys.ensure_secret(connection, settings.data_dir)
    for caller in CALLERS:
        created = now() - timedelta(days=caller.first_day + 40 if caller.first_day == 28 else caller.first_day)
        accounts.create(connection, Account(caller.name, created, "default"), "cli:root")
        keys.create(connection, secret, caller.name, "cli:root", 600 if caller.name == "loom-analytics" else None)
    accounts.create(connection, accounts.new("house-checks", operator=True), "cli:root")
    for name in ("brightdesk-support", "municipal-library-chat"):
        consents.grant(connection, name, "cli:root")
    until = now() + timedelta(days=20)
    declared_uses.declare(connection, "orchard-eval", "nightly regression of 300 fixed items", "cli:root", 400, until)


def _snapshots(connection: sa.Connection, folder: Path) -> None:
    rows = {"train": 1214, "calibration": 160, "gate": 412}
    report = {
        "rows": rows,
        "left_out": {
            "no_store": 3106,
            "no_consent": 1877,
            "duplicate": 402,
            "account_barred": 219,
            "unfinished": 96,
        },
        "accounts": {"brightdesk-support": 1702, "municipal-library-chat": 84},
        "scrubbed": {"email": 131, "phone": 57, "iban": 9},
    }
    for digest, who, days in ((SNAPSHOT, "joel", 0), ("41d7" + SNAPSHOT[4:], "mara", 8)):
        path = folder / "snapshots" / digest
        path.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([_training_row(number) for number in range(24)]), path / "train.parquet")
        made = now() - timedelta(days=days, minutes=50)
        snapshot = snapshots.new(digest, "ticket-routing", "chat.completions", "5e1b" * 8, str(path), who, report)
        snapshots.propose(connection, dataclasses.replace(snapshot, created=made))
    snapshots.approve(connection, "41d7" + SNAPSHOT[4:], "joel", "Samples read, scrubbing looks right.")


def _training_row(number: int) -> dict[str, Any]:
    request = {
        "messages": [
            {"role": "system", "content": "Name the queue for this ticket: billing, access, hardware, network."},
            {"role": "user", "content": TICKETS[number % len(TICKETS)]},
        ]
    }
    return {
        "id": f"0199aa10-0000-7000-8000-{number:012d}",
        "account": "brightdesk-support",
        "request": json.dumps(request),
        "answer": ("access", "billing", "network", "access")[number % 4],
    }


def _students(connection: sa.Connection, folder: Path) -> None:
    distance = Distance.fit([f"ticket {n} about the badge reader and door {n % 7}" for n in range(60)])
    distance = distance.calibrated([f"ticket {n} about the badge reader and door {n % 5}" for n in range(60, 120)])
    plans = (("ticket-router", 1, "refused"), ("ticket-router", 3, "promoted"), ("ticket-router", 4, "candidate"))
    for name, version, state in (*plans, ("reply-drafts", 1, "trained")):
        path = folder / "students" / f"{name}@{version}"
        path.mkdir(parents=True)
        distance.save(path / "distance.npz")
        trained = state != "refused"
        (path / "training.json").write_text(json.dumps(_training(trained)))
        student = Student(
            name=name,
            version=version,
            task="ticket-routing" if name == "ticket-router" else "reply-drafts",
            endpoint="chat.completions",
            skeleton="5e1b" * 8,
            snapshot="41d7" + SNAPSHOT[4:],
            teacher="teacher",
            path=str(path),
            state="trained",
            created=now() - timedelta(days=7 - version, hours=3),
            parameters=63_800_000,
            context_length=2048,
            licence="Apache-2.0",
            training={"layers": 10, "seed": version, "trained": trained},
            adequacy=str(path / "distance.npz"),
        )
        registry.add(connection, student, "cli:root")
        if state != "trained":
            _gate(connection, student, state)


def _gate(connection: sa.Connection, student: Student, state: str) -> None:
    wrong = {"refused": 190, "promoted": 14, "candidate": 18}[state]
    draw = random.Random(student.version)
    teacher = [draw.random() < 0.925 for _ in range(412)]
    student_right = [right if index >= wrong else draw.random() < 0.55 for index, right in enumerate(teacher)]
    verdict = decide(student_right, teacher, Rule())
    gate = verdict.as_row() | SPEEDS | {"measure": "equal labels", "evaluated": to_rfc3339(now())}
    basis = "the teacher's price × measured ratio of tokens/s (0.38)"
    registry.record_gate(connection, student.reference, verdict.passed, gate, (380, 1140), basis, "cli:root")
    if state == "promoted":
        registry.promote(connection, student.reference, "mara", "Gate passed with room; watched the first hour.")


def _training(trained: bool) -> dict[str, Any]:
    draw = random.Random(3)
    losses = [0.06 + 2.9 * math.exp(-step / 45) + draw.uniform(0, 0.14) for step in range(228)] if trained else []
    curve = [
        {"step": step, "epoch": 1 + step // 77, "loss": loss, "learning_rate": 3e-4, "seconds": step * 1.9}
        for step, loss in enumerate(losses, 1)
    ]
    settings = {"layers": 10, "epochs": 3, "batch_size": 16, "learning_rate": 0.0003, "seed": 4, "threads": 2}
    return {"settings": settings, "layers_kept": [0, 1, 2, 4, 7, 11, 15, 20, 25, 29], "examples": 1214, "curve": curve}


def _alerts(connection: sa.Connection, records: list[dict[str, Any]]) -> dict[str, str]:
    tallow = [
        _reason("unseen_share", 0.94, None, 0.21, "asked 553 different things in 7 days and came back to one 34 times"),
        _reason(
            "leaked_per_request", 402, None, 61, "got 236,402 tokens that neither its prompts nor earlier answers had"
        ),
        _reason("single_share", 1.0, None, 0.38, "100 % of its answers stood alone, outside any conversation"),
        _reason("repeated_share", 0.06, None, 0.47, "against it: 6 % asks something again"),
        _reason(
            "peers", 8, None, None, "8 other accounts to compare with, so the peers' median rests on the reference"
        ),
    ]
    kite = [
        _reason("logprobs_share", 0.98, 0.04, 0.01, "asked for token probabilities on 98 % of its requests in 7 days"),
        _reason("output_per_request", 141, 120, 96, "got 52,640 tokens in answers, 141 a request"),
    ]
    loom = [_reason("unseen_share", 0.64, 0.58, 0.21, "470 of its 735 questions had not been asked before")]
    novum = [_reason("elicits_share", 0.83, 0.6, 0.05, "asked for the working behind the answer on 73 requests")]
    delphi = [
        _reason("unseen_share", 0.91, 0.88, 0.21, "asked 180 different things in 7 days and never came back to one"),
        _reason("single_share", 0.97, 0.91, 0.38, "97 % of its answers stood alone, outside any conversation"),
    ]
    orchard = [_reason("grades_share", 1.0, 1.0, 0.12, "had 184 texts graded in 7 days")]
    opened = {
        "delphi-corpus": _alert(
            connection, records, "delphi-corpus", "medium", 0.77, timedelta(days=1, hours=4), delphi
        ),
        "orchard-eval": _alert(connection, records, "orchard-eval", "low", 0.38, timedelta(days=3), orchard),
        "tallow-research": _alert(connection, records, "tallow-research", "high", 0.96, timedelta(hours=3), tallow),
        "kitesurf-labs": _alert(connection, records, "kitesurf-labs", "medium", 0.71, timedelta(hours=19), kite),
        "loom-analytics": _alert(connection, records, "loom-analytics", "low", 0.42, timedelta(days=2), loom),
    }
    closed = _alert(connection, records, "novum-tutors", "high", 0.91, timedelta(days=5, hours=2), novum)
    alerts.decide(connection, closed, "suspend", "mara", "Same template in 4 000 variants; asked them, no answer.")
    moment = now() - timedelta(days=4, hours=20)
    connection.execute(sa.update(alerts.table).where(alerts.table.c.id == closed).values(decided=moment))
    measure = enforcement.table
    connection.execute(sa.update(measure).values(created=moment, until=moment + timedelta(days=30)))
    return opened


def _alert(
    connection: sa.Connection,
    records: list[dict[str, Any]],
    account: str,
    severity: alerts.Severity,
    score: float,
    age: timedelta,
    reasons: list[dict[str, Any]],
) -> str:
    own = [record for record in records if record["account"] == account]
    moment = now() - age
    before = [record for record in own if record["time"] < to_rfc3339(moment)]
    evidence = {
        "requests": len(own),
        "teacher_tokens": _tokens(own),
        "cost": sum(record["cost"] for record in own),
        "leaked_tokens": round(_tokens(own) * 0.72),
        "requests_before_alert": len(before),
        "teacher_tokens_before_alert": _tokens(before),
        "examples": [record["id"] for record in own[-3:]],
        "daily": [],
    }
    alert = Alert(uuid7(), account, severity, score, "open", moment, now(), reasons, evidence)
    connection.execute(sa.insert(alerts.table).values(**vars(alert)))
    return alert.id


def _tokens(records: list[dict[str, Any]]) -> int:
    return sum(record["usage"]["output_tokens"] for record in records if record["model_role"] == "teacher")


def _reason(feature: str, value: float, own: float | None, peers: float | None, text: str) -> dict[str, Any]:
    return {"feature": feature, "value": value, "own_baseline": own, "peer_median": peers, "text": text}
