"""Real Prometheus scrapes a running house: each promised figure arrives, no board is empty, no account is named."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from dashboards.grafana.boards import BOARDS
from dashboards.grafana.panels import INTERVAL
from dashboards.prometheus import rules
from gateway.ledger import accounts, alerts, keys, registry, snapshots
from gateway.ledger.database import open_database
from gateway.ledger.identifiers import now, to_rfc3339
from tests.fakes import FakeVllm, fake_vllm
from tests.gateway.house.running import Up, free_port, prepare, running_house
from tests.gateway.house.stand_in_vllm import make_model
from tests.gateway.house.waiting import eventually

pytestmark = [pytest.mark.prometheus, pytest.mark.timeout(300)]

ACCOUNT = "org-4411-unmistakable"
TOKEN = "scrape-me"
PROMISED = (
    "spiritsafe_requests_total",
    "gen_ai_client_token_usage_sum",
    "gen_ai_server_time_to_first_token_seconds_count",
    "gen_ai_server_request_duration_seconds_count",
    "spiritsafe_overhead_seconds_bucket",
    "spiritsafe_refusals_total",
    "spiritsafe_spool_lag_seconds",
    "spiritsafe_spool_drops_total",
    "spiritsafe_detector_lag_seconds",
    "spiritsafe_open_alerts",
    "spiritsafe_model_healthy",
    "spiritsafe_process_up",
    "spiritsafe_process_restarts_total",
)
OTHERS = """
[[models]]
name = "{name}"
role = "teacher"
backends = ["{url}"]
input_price = 1.0
output_price = 3.0
max_in_flight = 1
"""


@pytest.fixture(scope="module")
def vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM beside the one that the house serves."""
    with fake_vllm(["other", "busy"]) as fake:
        fake.load = (3, 1, 0.5)
        yield fake


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, vllm: FakeVllm) -> Iterator[Up]:
    """A house that has answered one stream."""
    folder = tmp_path_factory.mktemp("house")
    prepare(folder)
    settings = folder / "spiritsafe.toml"
    text = settings.read_text().replace("[operator]", f'[operator]\nscrape_token = "{TOKEN}"')
    settings.write_text(text + "".join(OTHERS.format(name=name, url=vllm.url) for name in ("other", "busy")))
    with running_house(folder) as up:
        for name in ("teacher", "operator", "ingester", "detector"):
            up.until(name, state="ready")
        stream_once(up)
        yield up


def stream_once(up: Up) -> None:
    """One streamed answer, to a new account; and one refusal, of a wrong key."""
    data_dir = up.folder / "data"
    database = open_database(f"sqlite:///{data_dir / 'control.sqlite'}")
    with database.write() as connection:
        accounts.create(connection, accounts.new(ACCOUNT), "test")
        _, key = keys.create(connection, keys.ensure_secret(connection, data_dir), ACCOUNT, "test")
    database.close()
    url = up.until("gateway-w0", state="ready").url
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, timeout=30, max_retries=4)
    eventually(lambda: _is_known(client))
    assert not _is_known(client.with_options(api_key="sk-safe-nobody"))
    words = client.chat.completions.create(model="other", messages=[{"role": "user", "content": "Hello"}], stream=True)
    assert list(words)


def _is_known(client: openai.OpenAI) -> bool:
    try:
        return bool(client.models.list().data)
    except openai.AuthenticationError:
        return False


@contextmanager
def prometheus(
    program: str, folder: Path, target: str, rule_files: Sequence[str] = ()
) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Run Prometheus against one target; yields `query(expression)`, the vector it answers."""
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": list(rule_files),
        "scrape_configs": [
            {
                "job_name": "spiritsafe",
                "authorization": {"credentials": TOKEN},
                "static_configs": [{"targets": [target]}],
            }
        ],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(configuration))  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    command = [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)

    def query(expression: str) -> list[dict[str, Any]]:
        url = f"http://{address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        except OSError:
            return []  # It is still starting.
        return result

    try:
        yield query
    finally:
        process.terminate()
        process.wait(20)


def await_all(query: Callable[[str], list[dict[str, Any]]], seconds: float = 20) -> set[str]:
    """Wait for every promised metric; return those that did not come."""
    missing, deadline = set(PROMISED), time.monotonic() + seconds
    while missing and time.monotonic() < deadline:
        missing -= {name for name in missing if query(name)}
        time.sleep(0.2)
    return missing


def refusals(query: Callable[[str], list[dict[str, Any]]]) -> float:
    """How many wrong keys Prometheus knows of."""
    found = query('sum(spiritsafe_refusals_total{reason="invalid_api_key"})')
    return float(found[0]["value"][1]) if found else 0.0


def scrape(up: Up) -> str:
    """The operator process's metrics as text."""
    request = urllib.request.Request(
        f"{up.until('operator', state='ready').url}/metrics", headers={"authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def test_prometheus_has_every_promised_figure(
    house: Up, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    """Each promised metric is there to be queried, with the numbers of the traffic that was sent."""
    program = require_program("prometheus", "prometheus")
    target = str(house.until("operator").url).removeprefix("http://")
    with prometheus(program, tmp_path, target) as query:
        eventually(lambda: query("up == 1"), 30)
        assert await_all(query) == set()
        requests = query('sum(spiritsafe_requests_total{model="other"})')
        assert float(requests[0]["value"][1]) == 1
        before = refusals(query)  # Requests from before the workers knew the key were refused too.
        url = house.until("gateway-w0").url
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", timeout=30, max_retries=0).models.list()
        eventually(lambda: refusals(query) == before + 1, 20)
        assert float(query('spiritsafe_model_healthy{model="teacher"}')[0]["value"][1]) == 1
        assert query('{__name__=~".+", account=~".+"}') == []


def fill_the_control_plane(folder: Path, version: int, evaluated: datetime) -> str:
    """An open alert, a snapshot, a promoted student with a gate report; returns a key that has a limit."""
    database = open_database(f"sqlite:///{folder / 'data' / 'control.sqlite'}")
    path = make_model(folder / "student")
    student = registry.Student(
        *("tickets", version, "tickets", "chat.completions", "ab", "f" * 64, "teacher", str(path), "promoted", now()),
        *(10, 2048, "Apache-2.0", {}),
        gate={"evaluated": to_rfc3339(evaluated)},
    )
    with database.write() as connection:
        alerts.raise_or_update(connection, ACCOUNT, "high", 0.9, [], {"leaked_tokens": 4711})
        registry.add(connection, student, "test")
        snapshots.propose(connection, snapshots.new("f" * 64, "tickets", "chat.completions", "ab", "", "test", {}))
        secret = keys.ensure_secret(connection, folder / "data")
        _, key = keys.create(connection, secret, ACCOUNT, "test", requests_per_minute=600)
    database.close()
    return key


@contextmanager
def load(url: str, key: str) -> Iterator[None]:
    """Three callers at once inside the block: streams, whole answers, another endpoint, models that do not exist."""
    stop = threading.Event()
    chat = {"model": "busy", "messages": [{"role": "user", "content": "Hello"}]}
    bodies = [
        ("chat/completions", chat | {"stream": True}),
        ("chat/completions", chat),
        ("completions", {"model": "busy", "prompt": "Hello"}),
        ("chat/completions", chat | {"model": "none"}),
    ]

    def call() -> None:
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"{url}/v1/", headers=headers, timeout=20) as client:
            while not stop.wait(0.05):
                for path, body in bodies:
                    client.post(path, json=body)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        stop.set()
        for caller in callers:
            caller.join(30)


def silent(query: Callable[[str], list[dict[str, Any]]], seconds: float) -> list[str]:
    """Ask every panel's queries until each has an answer that is a number; return those that have none in time."""
    queries = [
        (f"{board.name}: {panel.title}", query_.expression.replace(INTERVAL, "10s"))
        for board in BOARDS
        for panel in board.panels
        for query_ in panel.queries
    ]
    deadline = time.monotonic() + seconds
    while queries and time.monotonic() < deadline:
        queries = [item for item in queries if not any(row["value"][1] != "NaN" for row in query(item[1]))]
        time.sleep(0.5)
    return [f"{name}: {expression}" for name, expression in queries]


def test_no_panel_is_empty(house: Up, tmp_path: Path, require_program: Callable[[str, str], str]) -> None:
    """Every query of every board has an answer while a house with an alert and a student works."""
    program = require_program("prometheus", "prometheus")
    key = fill_the_control_plane(house.folder, 1, now())
    target = str(house.until("operator").url).removeprefix("http://")
    gateway = str(house.until("gateway-w0").url)
    with prometheus(program, tmp_path, target) as query, load(gateway, key):
        assert silent(query, 60) == []


def test_no_alert_stands_on_a_healthy_house(
    house: Up, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    """Prometheus loads the rules, and nothing is wrong by them, not even for a moment yet."""
    program = require_program("prometheus", "prometheus")
    target = str(house.until("operator").url).removeprefix("http://")
    with prometheus(program, tmp_path, target, rule_files=[str(rules.FILE)]) as query:
        eventually(lambda: query("up == 1 and on () sum(spiritsafe_process_up)"), 40)
        eventually(lambda: query("spiritsafe:failures:ratio_rate5m") and not query("ALERTS"), 40)


def test_promtool_finds_nothing_wrong(house: Up, require_program: Callable[[str, str], str]) -> None:
    """The text keeps Prometheus's rules for names, help and types."""
    program = require_program("promtool", "prometheus")
    checked = subprocess.run(
        [program, "check", "metrics"], input=scrape(house), capture_output=True, text=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_no_metric_names_an_account(house: Up) -> None:
    """No label or help text names an account, a key or a user."""
    text = scrape(house)
    assert ACCOUNT not in text
    assert not re.search(r"\b(account|key|user)=", text)


def damage_the_spool(folder: Path) -> None:
    """Write what is no frame where a worker's next frame goes."""
    segment = max((folder / "data" / "spool" / "w0").glob("*.seg"), key=lambda file: file.stat().st_mtime)
    with segment.open("ab") as file:
        file.write(b"no frame" * 64)


def test_real_faults_raise_their_alerts(
    house: Up, vllm: FakeVllm, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    """What is done to the house is seen within seconds, by the alert that names its runbook. It is the last test."""
    program = require_program("prometheus", "prometheus")
    target = str(house.until("operator").url).removeprefix("http://")
    gateway = str(house.until("gateway-w0").url)
    key = fill_the_control_plane(house.folder, 2, now() - timedelta(days=rules.GATE_REPORT_DAYS + 1))

    with prometheus(program, tmp_path, target, rule_files=[str(rules.FILE)]) as query, load(gateway, key):

        def raised(alert: str) -> list[dict[str, Any]]:
            return query(f'ALERTS{{alertname="{alert}"}}')

        eventually(lambda: query("spiritsafe_spool_damaged_bytes_total == 0"), 40)
        assert not any(map(raised, ("SpoolDamaged", "ModelWithoutBackend", "RequestsFail", "ProcessDown")))
        eventually(lambda: raised("GateReportOld"), 30)
        damage_the_spool(house.folder)
        eventually(lambda: raised("SpoolDamaged"), 30)
        vllm.stop()
        eventually(lambda: raised("ModelWithoutBackend"), 30)
        eventually(lambda: raised("RequestsFail"), 30)
        os.kill(house.until("detector").pid or 0, signal.SIGKILL)
        eventually(lambda: raised("ProcessDown"), 30)
        os.kill(house.until("operator").pid or 0, signal.SIGKILL)
        eventually(lambda: raised("HouseUnreachable"), 30)
