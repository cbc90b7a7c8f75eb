"""The admin API: what people do in the console, with a token, in the same words and under the same rules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway.admin import create_app
from gateway.admin.access import Surroundings
from gateway.ledger import accounts, alerts, enforcement, house_status, keys, operators, registry, snapshots
from gateway.ledger.database import Database
from gateway.ledger.house_status import HouseStatus, ProcessStatus
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from gateway.settings import ModelSettings, Settings
from tests.control_plane import fresh

TEACHER = ModelSettings("teacher", backends=("http://127.0.0.1:8001",), input_price=1.0, output_price=3.0)


@dataclass
class Api:
    """The API with two operators, ada and bela."""

    client: TestClient
    database: Database
    settings: Settings
    tokens: dict[str, str]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, actor: str = "ada") -> Any:
        """Send a request in an operator's name and return the parsed answer, which must be a success."""
        answer = self.send(method, path, body, actor)
        assert answer.is_success, answer.text
        return answer.json()

    def send(self, method: str, path: str, body: dict[str, Any] | None = None, actor: str = "ada") -> Any:
        """Send a request in an operator's name."""
        headers = {"authorization": f"Bearer {self.tokens[actor]}"}
        return self.client.request(method, path, json=body, headers=headers)

    def refused(
        self, method: str, path: str, body: dict[str, Any] | None = None, actor: str = "ada"
    ) -> tuple[int, str]:
        """Send a request that must fail; return its status and the message."""
        answer = self.send(method, path, body, actor)
        assert set(answer.json()) == {"error"}
        assert set(answer.json()["error"]) == {"message", "type"}
        return answer.status_code, answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def application() -> FastAPI:
    """The API's application, made once; each test gives it a house."""
    return create_app(Settings(), Database("sqlite://"))


@pytest.fixture
def api(tmp_path: Path, control_url: str, application: FastAPI) -> Iterator[Api]:
    """The API of a house with two operators, the account org-1 and a teacher declared."""
    settings = Settings(data_dir=tmp_path / "data", database=control_url, models=(TEACHER,))
    database = fresh(control_url)
    with database.write() as connection:
        tokens = {name: operators.create(connection, name, "correct horse", "test")[1] for name in ("ada", "bela")}
        accounts.create(connection, accounts.new("org-1"), "test")
    application.state.surroundings = Surroundings(settings, database)
    yield Api(TestClient(application), database, settings, tokens)
    database.close()


def student(state: registry.State, version: int = 1) -> registry.Student:
    """A student of the tickets task."""
    return registry.Student(
        *("tickets", version, "tickets", "chat.completions", "ab", "f" * 64, "teacher", "students/x", state, now()),
        parameters=10,
        context_length=2048,
        licence="Apache-2.0",
        training={"trained": True},
    )


def open_alert(api: Api) -> str:
    """Raise an alert about org-1 and return its id."""
    with api.database.write() as connection:
        reason = {
            "feature": "novelty",
            "value": 0.9,
            "own_baseline": 0.1,
            "peer_median": 0.2,
            "text": "asks new things",
        }
        return alerts.raise_or_update(connection, "org-1", "high", 0.97, [reason], {"requests": 12})[0].id


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer op-safe-wrong"}, {"authorization": "Basic YTpi"}])
def test_nothing_without_a_token(api: Api, header: dict[str, str]) -> None:
    """Every route but the description asks for an operator's token, and says how to get one."""
    paths = api.client.get("/openapi.json").json()["paths"]
    assert len(paths) >= 14
    for path, methods in paths.items():
        for method in methods:
            answer = api.client.request(method, path.replace("{", "").replace("}", ""), headers=header)
            assert answer.status_code == 401, (method, path)
            assert "operators create" in answer.json()["error"]["message"]


def test_an_account_and_its_key(api: Api) -> None:
    """A created account has the consent it gave; its key is shown once and works; a revoked one is marked."""
    created = api.call("POST", "/accounts", {"name": "acme", "consent": True, "tier": "gold"})
    assert (created["name"], created["consent"], created["tier"], created["operator"]) == ("acme", True, "gold", False)
    key = api.call("POST", "/keys", {"account": "acme", "requests_per_minute": 60})
    with api.database.read() as connection:
        pepper = keys.ensure_secret(connection, api.settings.data_dir)
        stored = {row.hash: row for row in keys.every(connection)}
    assert stored[keys.hash_key(pepper, key["key"])].account == "acme"
    listed = api.call("GET", "/keys?account=acme")
    assert [(row["id"], row["hint"], row["revoked"]) for row in listed] == [(key["id"], key["key"][-4:], None)]
    assert "hash" not in listed[0]
    assert api.call("DELETE", f"/keys/{key['id']}")["revoked"] is not None
    assert {row["name"]: row["consent"] for row in api.call("GET", "/accounts")} == {"acme": True, "org-1": False}


def test_a_keys_scope_and_its_ends(api: Api) -> None:
    """A key is made with bounds, rotated with a grace, told when to end; a misspelt bound is an error."""
    scope = {"models": ["teacher"], "endpoints": ["completions"], "maximum_output": 9, "extensions": True}
    old = api.call("POST", "/keys", {"account": "org-1", "scope": scope})
    new = api.call("POST", f"/keys/{old['id']}/rotate", {"grace": "2h"}, "bela")
    rows = {row["id"]: row for row in api.call("GET", "/keys")}
    assert rows[old["id"]]["scope"] == rows[new["id"]]["scope"] == scope
    assert rows[old["id"]]["expires"] is not None
    assert rows[new["id"]]["family"] == old["id"]
    assert "secret_name" not in rows[new["id"]]
    ended = api.call("POST", f"/keys/{new['id']}/expire", {"at": "2036-01-01T00:00:00Z"})
    assert ended["expires"] == "2036-01-01T00:00:00.000Z"
    assert api.call("POST", f"/keys/{new['id']}/expire", {"in": "3d"})["expires"] < "2036"
    assert api.refused("POST", f"/keys/{new['id']}/expire", {})[0] == 400
    assert api.refused("POST", f"/keys/{new['id']}/expire", {"at": "2036-01-01T00:00:00"})[0] == 400
    assert api.refused("POST", f"/keys/{old['id']}/rotate", {})[0] == 403
    assert api.refused("POST", "/keys", {"account": "org-1", "scope": {"model": "teacher"}})[0] == 400
    assert [row["actor"] for row in api.call("GET", "/audit") if row["action"] == "key.rotate"] == ["bela"]


def test_a_lost_secret_makes_no_key(api: Api) -> None:
    """A key hashed with another secret than the rest would never work: 503 with the remedy."""
    api.call("POST", "/keys", {"account": "org-1"})
    (api.settings.data_dir / "secret").unlink()
    status, message = api.refused("POST", "/keys", {"account": "org-1"})
    assert status == 503
    assert "restore it from the backup" in message


def test_limits_are_set_and_cleared(api: Api) -> None:
    """A change touches what it names, null ends a limit, and the operator stands in the audit row."""
    assert api.call("PATCH", "/limits/account/org-1", {"rpm": 60, "usd_day": 5})["updated"].endswith("Z")
    changed = api.call("PATCH", "/limits/account/org-1", {"rpm": None, "lane": "batch"}, "bela")
    assert (changed["rpm"], changed["usd_day"], changed["lane"]) == (None, 5, "batch")
    assert [row["name"] for row in api.call("GET", "/limits")] == ["org-1"]
    assert api.call("GET", "/audit?subject=account:org-1")[0]["actor"] == "bela"
    assert api.refused("PATCH", "/limits/account/org-1", {"rpm": 0})[0] == 400
    assert api.refused("PATCH", "/limits/account/org-1", {"speed": 1})[0] == 400
    assert api.refused("PATCH", "/limits/planet/org-1", {"rpm": 1})[0] == 400
    assert api.refused("PATCH", "/limits/model/unknown", {"rpm": 1})[0] == 404
    assert api.send("DELETE", "/limits/account/org-1").status_code == 204
    assert api.call("GET", "/limits") == []
    assert api.refused("DELETE", "/limits/account/org-1")[0] == 404


def test_errors_have_a_status_and_a_remedy(api: Api) -> None:
    """Each kind of error has its status, and the message says what to do."""
    assert api.refused("POST", "/accounts", {"name": "org-1"})[0] == 409
    assert api.refused("POST", "/accounts", {"name": "two words"})[0] == 400
    assert api.refused("GET", "/alerts/none") == (
        404,
        "no alert has the id 'none': `spiritsafe alerts list` shows those there are",
    )
    assert api.refused("POST", "/keys", {"account": "org-1", "rpm": 3}) == (400, "rpm: Extra inputs are not permitted")
    assert api.refused("POST", "/keys")[0] == 400
    assert api.refused("GET", "/nowhere")[0] == 404
    assert api.refused("PUT", "/accounts")[0] == 405


def test_our_own_faults_tell_nothing(api: Api) -> None:
    """An error nobody thought of is a 500 in the usual shape, without its inner workings."""
    with api.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE audit")
    client = TestClient(api.client.app, raise_server_exceptions=False)
    answer = client.get("/audit", headers={"authorization": f"Bearer {api.tokens['ada']}"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "internal error")


def test_a_suspension_by_alert(api: Api) -> None:
    """A decision puts the measure in force for as long as was said, in the operator's name, with an audit row."""
    identifier = open_alert(api)
    assert [row["id"] for row in api.call("GET", "/alerts?state=open")] == [identifier]
    body = {"decision": "suspend", "note": "collects answers in bulk", "for": "2d", "finding": "reseller"}
    decided = api.call("POST", f"/alerts/{identifier}/decide", body, "bela")
    assert (decided["state"], decided["decision"], decided["operator"]) == ("confirmed", "suspend", "bela")
    assert (decided["finding"], decided["assignee"], decided["batch"]) == ("reseller", None, None)
    with api.database.read() as connection:
        measure = enforcement.in_force(connection)["org-1"]
    assert (measure.action, measure.alert, measure.until - measure.created) == (
        "suspend",
        identifier,
        timedelta(days=2),
    )
    assert api.refused("POST", f"/alerts/{identifier}/decide", body)[0] == 403
    newest = api.call("GET", "/audit?subject=org-1")[0]
    assert (newest["actor"], newest["action"]) == ("bela", "alert.suspend")
    assert newest["time"].endswith("Z")
    shown = {row["name"]: row["enforcement"] for row in api.call("GET", "/accounts")}
    assert shown["org-1"]["action"] == "suspend"


@pytest.mark.parametrize("length", ["0d", "7", "-1d", "1000000d", 7, None])
def test_a_measure_needs_a_length_of_time(api: Api, length: object) -> None:
    """A length that would mean never, always or nothing is refused, and so is a measure without a reason."""
    body = {"account": "org-1", "action": "suspend", "note": "why", "for": length}
    status, message = api.refused("POST", "/enforcement", body)
    assert status == 400
    assert "7d" in message
    assert api.refused("POST", "/enforcement", body | {"for": "7d", "note": ""})[0] == 400


def test_measures_are_taken_and_cleared(api: Api) -> None:
    """A person can suspend without an alert and clear it again; a diversion needs a promoted student."""
    body = {"account": "org-1", "note": "why"}
    assert api.refused("POST", "/enforcement", body | {"action": "divert"})[0] == 403
    taken = api.call("POST", "/enforcement", body | {"action": "suspend"})
    assert (taken["measure"]["action"], taken["cleared"]) == ("suspend", 0)
    cleared = api.call("POST", "/enforcement", body | {"action": "clear"})
    assert (cleared["measure"], cleared["cleared"]) == (None, 1)
    history = api.call("GET", "/enforcement")
    assert [row["cleared"] is not None for row in history] == [True]


def test_a_snapshot_is_approved_by_somebody_else(api: Api) -> None:
    """Who asked for a snapshot can't approve it; another operator can."""
    with api.database.write() as connection:
        snapshots.propose(connection, snapshots.new("c" * 64, "t", "chat.completions", "ab", "p", "ada", {"rows": {}}))
    assert api.refused("POST", f"/snapshots/{'c' * 64}/approve", {"note": "mine"})[0] == 403
    assert api.call("GET", "/snapshots")[0]["approval"] is None
    approval = api.call("POST", "/snapshots/cccccccc/approve", {"note": "read it"}, "bela")
    assert (approval["approver"], approval["requested_by"]) == ("bela", "ada")
    assert api.call("GET", "/snapshots")[0]["approval"]["note"] == "read it"


def test_only_a_candidate_is_promoted(api: Api) -> None:
    """A person promotes and rolls back what the gate has proven, and nothing else."""
    with api.database.write() as connection:
        registry.add(connection, student("trained"), "test")
        registry.add(connection, student("candidate", 2), "test")
    assert api.refused("POST", "/models/tickets@1/promote", {"note": ""})[0] == 403
    assert api.call("POST", "/models/tickets@2/promote", {"note": "good"})["state"] == "promoted"
    assert api.call("POST", "/models/tickets@2/rollback", {"note": "bad"})["state"] == "candidate"
    listed = {row["reference"]: row for row in api.call("GET", "/models")}
    assert listed["teacher"]["role"] == "teacher"
    assert (listed["teacher"]["input_price"], listed["teacher"]["output_price"]) == (1000, 3000)
    assert (listed["tickets@2"]["state"], listed["tickets@2"]["task"]) == ("candidate", "tickets")


def test_a_backend_is_drained_and_put_back(api: Api) -> None:
    """By an operator, whose name stands in the list and the audit; an unknown URL is refused."""
    url = TEACHER.urls[0]
    assert api.call("POST", "/fleet/drain", {"url": url, "note": "driver"}) == {"url": url, "drained": True}
    (row,) = api.call("GET", "/fleet")
    assert (row["model"], row["drained"], row["drained_by"]) == ("teacher", True, "ada")
    assert api.call("GET", "/audit")[0]["action"] == "fleet.drain"
    api.call("POST", "/fleet/drain", {"url": url, "undo": True})
    assert api.call("GET", "/fleet")[0]["drained"] is False
    assert api.refused("POST", "/fleet/drain", {"url": "http://nowhere"})[0] == 404


def test_usage_adds_up_the_lake(api: Api) -> None:
    """Usage is of answered requests, by account, model and origin; an answer without tokens or cost is a request."""
    assert api.call("GET", "/usage") == []
    usage = {"input_tokens": 10, "output_tokens": 3, "source": "exact"}
    row = {
        "time": now().isoformat(),
        "account": "org-1",
        "endpoint": "chat.completions",
        "model": "teacher",
        "model_role": "teacher",
        "origin": "live",
        "status": 200,
    }
    paid = {"usage": usage, "cost": 100, "counterfactual_cost": 100}
    rows = [row | paid | {"id": "1"}, row | paid | {"id": "2"}, row | {"id": "3"}, row | {"id": "5", "status": 503}]
    rows += [row | paid | {"id": "4", "origin": "imported"}]
    Lake(api.settings.data_dir / "lake" / "traffic").append(to_table(rows))
    expected = {"requests": 3, "input_tokens": 20, "output_tokens": 6, "cost": 200, "counterfactual_cost": 200}
    found = api.call("GET", "/usage?origin=live")
    assert len(found) == 1
    assert found[0].items() >= expected.items()
    assert [row["origin"] for row in api.call("GET", "/usage?account=org-1")] == ["live", "imported"]
    assert api.call("GET", "/usage?account=nobody") == []


def test_health_says_whether_a_house_stands(api: Api) -> None:
    """Without a house there are no processes; one that wrote a moment ago runs; its models' errors are shown."""
    assert api.call("GET", "/health")["running"] is False
    open_alert(api)
    broken = ProcessStatus("teacher", "model", "waiting", now(), None, 2, "http://127.0.0.1:8001", "log", "no memory")
    house_status.write(api.settings.data_dir, HouseStatus(now(), 17, (broken,)))
    health = api.call("GET", "/health")
    assert (health["running"], health["pid"], health["open_alerts"]) == (True, 17, 1)
    assert (health["processes"][0]["name"], health["processes"][0]["error"]) == ("teacher", "no memory")
    house_status.write(api.settings.data_dir, HouseStatus(now() - timedelta(minutes=1), 17, (broken,)))
    assert api.call("GET", "/health")["running"] is False
