"""`spiritsafe keys …`."""

from __future__ import annotations

import json

from gateway.ledger import keys
from gateway.ledger.database import open_database
from tests.gateway.commands.cli import Cli


def test_a_key_is_shown_once_and_works(cli: Cli) -> None:
    """The text that was printed hashes to the row; no list shows it again."""
    cli.run("accounts", "create", "app")
    (made,) = cli.rows("keys", "create", "--account", "app", "--requests-per-minute", "30")
    listed = cli.run("keys", "list", "--json").stdout
    assert made["key"] not in listed
    assert made["id"] in listed
    (row,) = cli.rows("keys", "list", "--account", "app")
    assert (row["hint"], row["requests_per_minute"], row["revoked"]) == (made["key"][-4:], 30, None)
    database = open_database(cli.settings.database_url)
    with database.read() as connection:
        pepper = keys.ensure_secret(connection, cli.settings.data_dir)
        assert keys.every(connection)[0].hash == keys.hash_key(pepper, made["key"])
    database.close()


def test_a_key_needs_its_account(cli: Cli) -> None:
    """A key for nobody is refused with the command that lists accounts."""
    result = cli.run("keys", "create", "--account", "nobody", exit_code=1)
    assert "spiritsafe accounts list" in result.stderr
    assert cli.run("keys", "create", exit_code=2).stdout == ""
    assert cli.run("keys", "create", "--account", "a", "--requests-per-minute", "0", exit_code=2).stdout == ""


def test_a_revoked_key_stays_in_the_list(cli: Cli) -> None:
    """With the moment it ended; an unknown id is refused."""
    cli.run("accounts", "create", "app")
    (made,) = cli.rows("keys", "create", "--account", "app")
    (ended,) = cli.rows("keys", "revoke", made["id"])
    assert ended["revoked"].endswith("Z")
    assert cli.rows("keys", "list") == [ended]
    assert "keys list" in cli.run("keys", "revoke", "none", exit_code=1).stderr


def test_a_keys_bounds_are_shown(cli: Cli) -> None:
    """What was asked for stands in the answer and in the list."""
    cli.run("accounts", "create", "app")
    bounds = ["--model", "teacher", "--model", "fruit", "--endpoint", "chat.completions", "--max-output", "500"]
    (made,) = cli.rows("keys", "create", "--account", "app", *bounds, "--extensions", "--expires-in", "90d")
    (row,) = cli.rows("keys", "list")
    scope = {"models": ["teacher", "fruit"], "endpoints": ["chat.completions"], "maximum_output": 500}
    assert row["scope"] == made["scope"] == scope | {"extensions": True}
    assert row["expires"] == made["expires"]
    assert made["expires"].endswith("Z")
    cli.run("keys", "create", "--account", "app", "--endpoint", "images", exit_code=2)


def test_a_rotated_key_has_a_successor(cli: Cli) -> None:
    """Which is shown once; the old one's end stands in the list, and the words say how to end it now."""
    cli.run("accounts", "create", "app")
    (old,) = cli.rows("keys", "create", "--account", "app")
    result = cli.run("keys", "rotate", old["id"], "--grace", "2h", "--json")
    new = json.loads(result.stdout)
    assert new["key"] not in (old["key"], cli.run("keys", "list", "--json").stdout)
    assert "keys revoke" in result.stderr
    rows = {row["id"]: row for row in cli.rows("keys", "list")}
    assert rows[old["id"]]["expires"] is not None
    assert rows[new["id"]]["expires"] is None
    assert "keys list" in cli.run("keys", "rotate", "none", exit_code=1).stderr
    assert "24h" in cli.run("keys", "rotate", "--help").stdout


def test_a_key_is_told_its_end(cli: Cli) -> None:
    """By a length of time or a moment; both, neither and what has passed are refused with the remedy."""
    cli.run("accounts", "create", "app")
    (made,) = cli.rows("keys", "create", "--account", "app")
    (row,) = cli.rows("keys", "expire", made["id"], "--at", "2036-01-01T00:00:00Z")
    assert row["expires"] == "2036-01-01T00:00:00.000Z"
    (row,) = cli.rows("keys", "expire", made["id"], "--in", "1h")
    assert row["expires"] < "2036"
    for arguments in ((), ("--in", "1h", "--at", "2036-01-01T00:00:00Z")):
        assert "one of two" in cli.run("keys", "expire", made["id"], *arguments, exit_code=1).stderr
    assert "keys revoke" in cli.run("keys", "expire", made["id"], "--at", "2020-01-01T00:00:00Z", exit_code=1).stderr
    assert "2026-12-01T00:00:00Z" in cli.run("keys", "expire", made["id"], "--at", "noon", exit_code=2).stderr
    assert "7d" in cli.run("keys", "expire", made["id"], "--in", "0d", exit_code=2).stderr
