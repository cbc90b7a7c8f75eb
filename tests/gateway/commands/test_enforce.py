"""`enforce`, `policies`, `alerts appeal` and declared uses on the command line."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gateway.ledger import accounts, alerts
from gateway.ledger.database import open_database
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.test_estimates import record

NOTE = ("--note", "one behind all")


@pytest.fixture
def house(cli: Cli) -> Cli:
    """A house with the accounts `a` and `b`, a day of traffic, and an alert about both."""
    database = open_database(cli.settings.database_url)
    with database.write() as connection:
        for name in ("a", "b"):
            accounts.create(connection, accounts.new(name), "tester")
        alerts.raise_or_update(connection, "a", "high", 0.9, [{"text": "many"}], {"set": "s-1", "members": ["b"]})
    database.close()
    rows = [record("a", parameters={"n": 2}), record("a"), record("b")]
    Lake(cli.settings.data_dir / "lake" / "traffic").append(to_table(rows))
    return cli


def alert(house: Cli) -> dict[str, Any]:
    return house.rows("alerts", "list")[0]


def test_a_set_is_hit_and_let_go(house: Cli) -> None:
    """By the alert that links them, or named one by one; one id takes all of it back."""
    taken = house.rows("enforce", "--set", alert(house)["id"], "--action", "suspend", "--for", "2d", *NOTE)
    assert [(row["account"], row["action"]) for row in taken] == [("a", "suspend"), ("b", "suspend")]
    (decision,) = {row["decision"] for row in taken}
    assert house.rows("enforce", "--list") == taken
    house.run("enforce", "--set", "s-1", "--action", "strip", "--dry-run")
    assert "alerts list" in house.run("enforce", "--set", "s-2", "--action", "strip", "--dry-run", exit_code=1).stderr
    milder = house.rows("enforce", "--accounts", "a, b", "--action", "cap", "--tokens-per-day", "50", *NOTE)
    undone = house.rows("enforce", "--undo", milder[0]["decision"], *NOTE)
    assert [(row["ended"], row["restored"]) for row in undone] == [("cap", "suspend")] * 2
    house.run("enforce", "--undo", decision, *NOTE)
    assert house.rows("enforce", "--list") == []


def test_a_dry_run_says_and_does_nothing(house: Cli) -> None:
    """A sentence with its arithmetic, for a set by account as well; the same as JSON."""
    said = house.run("enforce", "a", "--action", "strip", "--dry-run").stdout
    assert "stopped 25% of the teacher tokens" in said
    assert "(50 of 200 tokens" in said
    table = house.run("enforce", "--accounts", "a,b", "--action", "suspend", "--dry-run").stdout.splitlines()
    assert "refused 3 and changed 0 of 3 requests" in table[0]
    assert [line.split()[0] for line in table[1:]] == ["account", "a", "b"]
    (found,) = house.rows("enforce", "a", "--action", "strip", "--dry-run")
    assert (found["share"], found["accounts"]["a"]["changed"]) == (0.25, 1)
    assert house.rows("enforce", "--list") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("a",),
        ("a", "--action", "suspend"),
        ("--action", "suspend", *NOTE),
        ("a", "--accounts", "b", "--action", "watch", *NOTE),
        ("--undo", "x"),
    ],
)
def test_what_is_missing_is_named(house: Cli, arguments: tuple[str, ...]) -> None:
    """Wrong use ends with status 2 and does nothing."""
    house.run("enforce", *arguments, exit_code=2)
    assert house.rows("enforce", "--list") == []


def test_a_policy_from_writing_to_undoing(house: Cli) -> None:
    """Written down, played over the past, switched on; what may never be automatic is refused with the reason."""
    create = ("policies", "create", "p", "--severity", "medium", "--note", "collectors")
    assert "never automatic" in house.run(*create, "--action", "suspend", exit_code=1).stderr
    assert house.rows(*create, "--action", "strip", "--at-once")[0]["enabled"] is False
    (hit,) = house.rows("policies", "run", "p", "--since", "14d")
    assert (hit["account"], hit["accounts"], hit["decided"]) == ("a", 2, None)
    assert "1 alerts would have met it: 2 accounts" in house.run("policies", "run", "p").stderr
    assert house.rows("policies", "enable", "p", "--note", "tried")[0]["enabled"] is True
    assert house.rows("policies", "list")[0]["switched_by"].startswith("cli:")
    database = open_database(house.settings.database_url)
    with database.write() as connection:
        alerts.raise_or_update(connection, "a", "high", 0.9, [], {"members": ["b"]})
    database.close()
    assert {row["operator"] for row in house.rows("enforce", "--list")} == {"policy:p"}
    house.run("policies", "disable", "p", "--note", "too broad")
    house.run("alerts", "decide", alert(house)["id"], "--action", "dismiss", "--note", "fine")
    assert house.rows("enforce", "--list") == []


def test_an_appeal_and_an_undoing_open_the_alert(house: Cli) -> None:
    """What is in force outlasts the appeal; the undoing leaves what was before, and a dismissal nothing."""
    decide = ("alerts", "decide", alert(house)["id"], "--note", "harvest", "--action", "cap", "--tokens-per-day", "9")
    assert house.rows(*decide)[0]["state"] == "confirmed"
    opened = house.rows("alerts", "appeal", alert(house)["id"], "--note", "it is our evaluation")[0]
    assert (opened["state"], len(house.rows("enforce", "--list"))) == ("open", 2)
    again = [*decide[:-4], "--action", "suspend"]
    assert house.rows(*again)[0]["state"] == "confirmed"
    assert house.rows("alerts", "undo", alert(house)["id"], "--note", "a mistake")[0]["state"] == "open"
    assert {row["action"] for row in house.rows("enforce", "--list")} == {"cap"}
    house.run("alerts", "decide", alert(house)["id"], "--note", "it is", "--action", "dismiss")
    assert house.rows("enforce", "--list") == []


def test_a_declared_use_from_granting_to_revoking(house: Cli) -> None:
    """Granted with a cap and an end, shown beside what was used, ended; the past is no end."""
    house.run("enforce", "a", "--action", "verify", "--note", "what is it?")
    declare = ("accounts", "declare", "a", "--use", "evaluation", "--cap-per-day", "1")
    house.run(*declare, "--until", "2020-01-01T00:00:00Z", exit_code=2)
    until = to_rfc3339(now() + timedelta(days=30))
    granted = house.rows(*declare, "--until", until, "--operator", "olga")[0]
    assert granted["granted_by"] == "olga"
    assert house.rows("enforce", "--list") == []
    (use,) = house.rows("accounts", "uses")
    assert (use["state"], use["cap_per_day"], use["over"] <= 1) == ("holds", 1, True)
    house.run("accounts", "revoke-use", granted["id"], "--note", "it ended")
    assert house.rows("accounts", "uses", "a")[0]["state"] == "ended"
    house.run("accounts", "uses", "nobody", exit_code=1)


def test_a_contract_is_noted(house: Cli) -> None:
    """Whether a diversion reaches the models that an account names."""
    assert house.rows("accounts", "contract", "a", "--divert-named")[0]["divert_named"] is True
    assert house.rows("accounts", "contract", "a", "--no-divert-named")[0]["divert_named"] is False
