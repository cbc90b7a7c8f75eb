"""`spiritsafe keys …`."""

from __future__ import annotations

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
    secret = keys.installation_secret(cli.settings.data_dir)
    (row,) = cli.rows("keys", "list", "--account", "app")
    assert (row["hint"], row["requests_per_minute"], row["revoked"]) == (made["key"][-4:], 30, None)
    database = open_database(cli.settings.database_url)
    with database.read() as connection:
        assert keys.every(connection)[0].hash == keys.hash_key(secret, made["key"])
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
