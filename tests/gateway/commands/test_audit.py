"""`spiritsafe audit`: the log listed, and found whole or not."""

from __future__ import annotations

import json

import sqlalchemy as sa

from gateway.ledger.database import Database
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.tampering import tampered


def test_what_was_done_is_listed_newest_first(cli: Cli) -> None:
    """Who, what, before, after and why, narrowed by subject, actor, action and number."""
    cli.run("accounts", "create", "app")
    cli.run("limits", "set", "--account", "app", "--rpm", "60")
    cli.run("enforce", "app", "--action", "suspend", "--note", "harvests", "--operator", "mara")
    newest, limits, account = cli.rows("audit", "list")
    assert (newest["number"], newest["actor"], newest["action"]) == (3, "mara", "enforce.suspend")
    assert (newest["before"], newest["after"]["action"], newest["reason"]) == (None, "suspend", "harvests")
    assert (limits["before"], limits["after"]) == ({"rpm": None}, {"rpm": 60})
    assert cli.rows("audit", "list", "--subject", "app") == [newest, account]
    assert cli.rows("audit", "list", "--actor", "mara") == [newest]
    assert cli.rows("audit", "list", "--action", "limits.set") == [limits]
    assert cli.rows("audit", "list", "--limit", "1") == [newest]
    assert "harvests" in cli.run("audit", "list").stdout


def test_a_whole_log_is_said_to_be_whole(cli: Cli) -> None:
    """Status 0, the number of rows, and the hash to keep, which is expected again after more was done."""
    cli.run("accounts", "create", "app")
    (verdict,) = cli.rows("audit", "verify")
    assert (verdict["rows"], verdict["number"], verdict["faults"]) == (1, 1, [])
    cli.run("accounts", "create", "other")
    assert "The log is whole" in cli.run("audit", "verify", "--expect", verdict["hash"]).stderr


def test_a_changed_log_says_where(cli: Cli) -> None:
    """Status 1, the row's number on stdout and whose row it is on stderr; likewise a hash that is not there."""
    for name in ("app", "other", "third"):
        cli.run("accounts", "create", name)
    wrong = cli.run("audit", "verify", "--expect", "ab" * 32, exit_code=1)
    assert "no row has the hash abab" in wrong.stderr
    database = Database(cli.settings.database_url)
    with tampered(database) as connection:
        connection.execute(sa.text("UPDATE audit SET actor = 'somebody' WHERE number = 2"))
    database.close()
    result = cli.run("audit", "verify", "--json", exit_code=1)
    assert [fault["number"] for fault in json.loads(result.stdout)["faults"]] == [2]
    assert "row 2 (somebody, account.create, other) is not what was written there" in result.stderr
