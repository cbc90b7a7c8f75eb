"""The ladder by the admin API: steps against many, dry runs, undoing, appeals, policies and declared uses."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import FastAPI

from gateway.ledger import accounts, alerts, audit
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from tests.gateway.admin.test_admin import Api, api, application
from tests.gateway.ledger.test_estimates import record

__all__ = ["api", "application"]  # fixtures


@pytest.fixture
def alert(api: Api, application: FastAPI) -> alerts.Alert:
    """An alert about org-1 and org-2, with a little traffic of both."""
    lake = Lake(api.settings.data_dir / "lake" / "traffic")
    lake.append(to_table([record("org-1", parameters={"n": 2}), record("org-2")]))
    with api.database.write() as connection:
        accounts.create(connection, accounts.new("org-2"), "test")
        return alerts.raise_or_update(connection, "org-1", "high", 0.9, [], {"members": ["org-2"]})[0]


def test_a_step_is_tried_taken_and_undone(api: Api, alert: alerts.Alert) -> None:
    """The same names and numbers in all three, on the whole set; the actor is the token's."""
    wanted = {"set": alert.id, "action": "suspend", "for": "2d"}
    tried = api.call("POST", "/enforcement/estimate", wanted)
    assert (tried["share"], tried["refused"], sorted(tried["accounts"])) == (1.0, 2, ["org-1", "org-2"])
    assert api.call("GET", "/enforcement") == []
    taken = api.call("POST", "/enforcement", wanted | {"note": "one behind both"}, actor="bela")
    assert [(row["account"], row["operator"]) for row in taken["measures"]] == [("org-1", "bela"), ("org-2", "bela")]
    decision = taken["measure"]["decision"]
    undone = api.call("POST", f"/enforcement/{decision}/undo", {"note": "a mistake"})
    assert ([row["action"] for row in undone["ended"]], undone["restored"]) == (["suspend"] * 2, [])
    assert api.refused("POST", f"/enforcement/{decision}/undo", {"note": "again"})[0] == 403
    assert api.refused("POST", "/enforcement/estimate", {"action": "strip"})[0] == 400
    assert api.refused("POST", "/enforcement/estimate", wanted | {"action": "cap"})[0] == 400
    with api.database.read() as connection:
        assert audit.recent(connection, 1, "org-2")[0].actor == "ada"


def test_a_decision_is_appealed_and_taken_back(api: Api, alert: alerts.Alert) -> None:
    """Both open the alert; only taking it back ends what is in force."""
    body = {"decision": "cap", "tokens_per_day": 9, "note": "harvest"}
    api.call("POST", f"/alerts/{alert.id}/decide", body)
    assert api.call("POST", f"/alerts/{alert.id}/appeal", {"note": "we object"})["state"] == "open"
    rows = api.call("GET", "/enforcement?account=org-2")
    assert [(row["action"], row["tokens_per_day"], row["cleared"]) for row in rows] == [("cap", 9, None)]
    api.call("POST", f"/alerts/{alert.id}/decide", body)
    assert api.call("POST", f"/alerts/{alert.id}/undo", {"note": "a mistake"})["state"] == "open"
    assert api.call("GET", "/enforcement?account=org-2")[0]["cleared"] is not None
    assert api.refused("POST", f"/alerts/{alert.id}/appeal", {"note": ""})[0] == 400


def test_a_policy_is_written_played_and_switched(api: Api, alert: alerts.Alert) -> None:
    """What is never automatic is 403 with the reason."""
    body = {"name": "p", "action": "strip", "note": "collectors", "within": None}
    refused = api.refused("POST", "/policies", body | {"action": "cap"})
    assert (refused[0], "never automatic" in refused[1]) == (403, True)
    assert api.call("POST", "/policies", body)["spread_s"] == 0
    assert [hit["account"] for hit in api.call("GET", "/policies/p/run?days=14")] == ["org-1"]
    assert api.call("POST", "/policies/p/enable", {"note": "tried"})["enabled"] is True
    assert api.call("POST", "/policies/p/disable", {"note": "too broad"})["switched_by"] == "ada"
    assert [row["name"] for row in api.call("GET", "/policies")] == ["p"]
    assert api.refused("GET", "/policies/q/run")[0] == 404


def test_a_use_is_granted_and_revoked(api: Api, alert: alerts.Alert) -> None:
    """By the operator whose token it is, shown with what was used."""
    until = to_rfc3339(now() + timedelta(days=3))
    use = {"account": "org-1", "use": "evaluation", "cap_per_day": 100, "until": until}
    granted = api.call("POST", "/uses", use)
    assert granted["granted_by"] == "ada"
    assert [row["over"] for row in api.call("GET", "/uses?account=org-1")] == [0]
    assert api.call("POST", f"/uses/{granted['id']}/revoke", {"note": "it ended"})["revoked"] is not None
    assert api.refused("POST", "/uses", use | {"cap_per_day": 0})[0] == 400
