"""The canary: it harvests through an endpoint, its alert comes and is nobody's work, and it is told when none comes."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from detector import canary, columns
from detector.commands import detector
from detector.service import Service
from detector.watch import Watch
from gateway.ledger import accounts, alerts, audit, canaries, enforcement, keys, policies
from gateway.ledger.database import Database
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake
from gateway.settings import Settings, load_settings
from tests.control_plane import fresh
from tests.detector import histories
from tests.detector.histories import Record
from tests.fakes import chat_answer, fake_vllm, usage
from tests.gateway.house.running import running_house

NAME = "canary-1"
HOUSE = """\
data_dir = "data"
[gateway]
port = 0
[operator]
port = 0
[[models]]
name = "teacher"
backends = ["{url}"]
output_price = 3.0
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return the settings file of a house without processes."""
    file = tmp_path / "spiritsafe.toml"
    file.write_text('[[models]]\nname = "teacher"\nbackends = ["http://127.0.0.1:8001"]\n')
    return file


@pytest.fixture
def settings(config: Path) -> Settings:
    """Return them as they are read."""
    return load_settings(config, {})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Return its control plane."""
    opened = fresh(settings.database_url)
    yield opened
    opened.close()


def harvest(account: str, end: datetime, count: int = 150, seed: int = 0) -> list[Record]:
    """Return what a canary's run leaves in the lake, all of it within a few milliseconds."""
    texts = canary.prompts(random.Random(seed), count)
    rows = [
        histories.record(
            account, number, end - timedelta(milliseconds=(count - number) / 10), [histories.user(text)], 40
        )
        for number, text in enumerate(texts)
    ]
    return [{**row, "origin": "live"} for row in rows]


def every_alert(database: Database) -> list[alerts.Alert]:
    """Return the alerts, newest first."""
    with database.read() as connection:
        return alerts.every(connection)


def make_canary(database: Database) -> None:
    """Make the canary."""
    with database.write() as connection:
        canaries.ensure(connection, NAME, "test")


def lines(*arguments: str) -> Any:
    """Call `spiritsafe detector canary`."""
    return CliRunner().invoke(detector, ["canary", "--account", NAME, *arguments])


@contextmanager
def endpoint(status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """Serve an endpoint that remembers what is asked; yields its address and the texts."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(body["messages"][0]["content"])
            self._answer(status)

        def log_message(self, *_arguments: Any) -> None:
            pass

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def test_its_alert_is_closed_as_it_comes(settings: Settings, database: Database) -> None:
    """No operator sees it open, no policy leaves anything in force, and the rows may train nobody."""
    make_canary(database)
    with database.write() as connection:
        policies.create(connection, "all", "strip", "test", "collectors", severity="low", spread=timedelta(0))
        policies.switch(connection, "all", True, "test", "on")
    Lake.of(settings).append(histories.to_table(harvest(NAME, now())))
    Service(settings, database).round()
    (alert,) = every_alert(database)
    assert (alert.account, alert.of_canary, alert.state, alert.operator) == (NAME, True, "dismissed", "detector")
    with database.read() as connection:
        assert alerts.barred_accounts(connection) == {NAME}
        assert enforcement.in_force(connection) == {}


def test_every_run_is_found_anew(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon after its first request as the first, whatever came before; reading the lake again repeats none."""
    make_canary(database)
    lake, service = Lake.of(settings), Service(settings, database)
    for run in range(2):
        time.sleep(1.1)  # states count whole seconds, and it has to cross after the last alert was opened
        lake.append(histories.to_table(harvest(NAME, now(), seed=run)))
        service.round()
    first, second = (alert.evidence["requests_before_alert"] for alert in every_alert(database))
    assert first == second < 150
    service.start_over()
    service.round()
    assert len(every_alert(database)) == 2
    monkeypatch.setattr("detector.service.CANARY_RESTS_S", 1.0)
    lake.append(histories.to_table(harvest(NAME, now(), 20, seed=3)))  # of a run that was broken off
    service.round()
    time.sleep(2.1)
    lake.append(histories.to_table(harvest(NAME, now(), seed=4)))
    service.round()
    newest = every_alert(database)[0]
    assert (len(every_alert(database)), newest.evidence["requests_before_alert"]) == (3, first)


def test_a_canary_that_does_more_than_a_canary_is_looked_at(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody harvests in earnest under its name: beyond so many alerts a day one stays open, and no other comes."""
    monkeypatch.setattr("detector.alerting.CANARY_ALERTS", 1)
    make_canary(database)
    lake, service = Lake.of(settings), Service(settings, database)
    for run in range(3):
        time.sleep(1.1)
        lake.append(histories.to_table(harvest(NAME, now(), seed=run)))
        service.round()
    newest, first = every_alert(database)
    assert (first.of_canary, first.state) == (True, "dismissed")
    assert (newest.of_canary, newest.state) == (False, "open")


def test_a_canary_is_nobodys_peer(scene_rows: list[Record]) -> None:
    """What is said of others, and to whom they are compared, is as if there were none."""
    others = [row for row in scene_rows if row["account"] == "harvester"]
    quiet = histories.chat_app(random.Random(1), NAME, histories.history(random.Random(1), 30, 3))

    class Seen:
        """A linker that notes whom it sees."""

        def __init__(self) -> None:
            self.accounts: set[str] = set()

    alone, beside = Watch(), Watch()
    beside.canaries = frozenset({NAME})
    seen = Seen()
    show = beside.linker.see

    def see(rows: columns.Columns, places: Any) -> None:
        seen.accounts |= {rows.names[place] for place in np.unique(rows.account)}
        show(rows, places)

    beside.linker.see = see  # type: ignore[method-assign]
    alone.advance(columns.read(histories.to_table(others)))
    beside.advance(columns.read(histories.to_table(histories.in_order([*others, *quiet]))))
    assert seen.accounts == {"harvester"}
    assert alone.assess("harvester").reasons == beside.assess("harvester").reasons


def test_only_a_new_account_can_be_one(database: Database) -> None:
    """Somebody's account would not be looked at any more; making a canary is audited."""
    with database.write() as connection:
        accounts.create(connection, accounts.new("acme"), "test")
        with pytest.raises(Forbidden, match="take a new name"):
            canaries.ensure(connection, "acme", "test")
        made = canaries.ensure(connection, NAME, "test")
        assert canaries.ensure(connection, NAME, "test") == made
        assert audit.recent(connection)[0].action == "canary.create"


def test_a_run_ends_with_its_alert(settings: Settings, database: Database, config: Path) -> None:
    """It sends no more than it may, stops when the alert is there, notes what passed, and leaves no key behind."""
    with endpoint() as (url, asked):
        stop = threading.Event()

        def follow() -> None:
            lake, service = Lake.of(settings), Service(settings, database)
            begin, read = now(), 0
            while not stop.wait(0.2):
                new = asked[read:]
                rows = [
                    histories.record(NAME, read + i, begin + timedelta(seconds=read + i), [histories.user(text)], 40)
                    for i, text in enumerate(new)
                ]
                read += len(new)
                if rows:
                    lake.append(histories.to_table(rows))
                service.round()

        thread = threading.Thread(target=follow)
        thread.start()
        done = lines("--url", url, "--requests", "160", "--within", "60s", "--json", "--config", str(config))
        stop.set()
        thread.join(30)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["problem"], 30 < found["requests"] <= len(asked) <= 160, len(set(asked))) == (None, True, len(asked))
    assert found["seconds"] > 0
    with database.read() as connection:
        (key,) = keys.every(connection)
    assert key.revoked is not None
    assert key.scope == keys.Scope(("teacher",), ("chat.completions",), 48)


@pytest.mark.parametrize(
    ("status", "says"), [(200, "there was no alert after 10 s"), (503, "the endpoint answers 503")]
)
def test_a_run_without_an_alert_is_told(database: Database, config: Path, status: int, says: str) -> None:
    """Status 1, with the reason in the control plane for whoever is paged; an endpoint that fails is left in peace."""
    with endpoint(status) as (url, asked):
        done = lines("--url", url, "--requests", "40", "--within", "10s", "--config", str(config))
    assert done.exit_code == 1
    assert says in done.stderr
    assert len(asked) == (40 if status == 200 else 16)
    with database.read() as connection:
        (known,) = canaries.every(connection)
    assert (known.found, says in (known.problem or "")) == (None, True)


def test_what_cannot_be_found_is_refused_beforehand(config: Path, tmp_path: Path) -> None:
    """Fewer requests than the detector needs to say anything, and a place that is not known."""
    few = lines("--url", "http://127.0.0.1:9", "--requests", "30", "--config", str(config))
    assert (few.exit_code, "detector.minimum_requests" in few.output) == (1, True)
    config.write_text(config.read_text() + "[gateway]\nport = 0\n")
    nowhere = lines("--config", str(config))
    assert (nowhere.exit_code, "--url" in nowhere.output) == (1, True)


def test_the_endpoint_is_the_settings(settings: Settings) -> None:
    """An address that all interfaces listen on is asked on loopback."""
    everywhere = dataclasses.replace(settings, gateway=dataclasses.replace(settings.gateway, host="0.0.0.0", port=81))
    assert canary.endpoint(everywhere) == "http://127.0.0.1:81"


@pytest.mark.slow
def test_a_canary_is_found_in_a_working_house(tmp_path: Path) -> None:
    """Through the real endpoint, spool, ingester, lake and detector, within two minutes."""
    with fake_vllm() as teacher:
        teacher.always(lambda request: [chat_answer("teacher", "word " * 40, usage(30, 40))])
        (tmp_path / "spiritsafe.toml").write_text(HOUSE.format(url=teacher.url))
        with running_house(tmp_path) as up:
            for name in ("gateway-w0", "ingester", "detector"):
                up.until(name, state="ready")
            done = lines("--within", "2m", "--json", "--config", str(tmp_path / "spiritsafe.toml"))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["requests"] <= 200
