"""`spiritsafe limits …`."""

from __future__ import annotations

from tests.gateway.commands.cli import Cli


def test_limits_are_set_listed_and_cleared(cli: Cli) -> None:
    """What was set is listed, money as exact dollars; `none` ends one limit, `clear` all of a subject."""
    cli.run("accounts", "create", "acme")
    (made,) = cli.rows("limits", "set", "--account", "acme", "--rpm", "60", "--usd-day", "0.000000001")
    assert (made["rpm"], made["usd_day"], made["tpm"]) == (60, "0.000000001", None)
    cli.run("limits", "set", "--account", "acme", "--rpm", "none", "--usd-month", "12.50", "--lane", "batch")
    cli.run("limits", "set", "--model", "teacher", "--max-output", "100")
    account, model = cli.rows("limits", "list")
    assert (account["rpm"], account["usd_month"], account["lane"]) == (None, "12.5", "batch")
    assert (model["name"], model["max_output"]) == ("teacher", 100)
    cli.run("limits", "set", "--account", "acme", "--lane", "none")
    assert cli.rows("limits", "list")[0]["lane"] is None
    cli.run("limits", "clear", "--account", "acme")
    assert [row["subject"] for row in cli.rows("limits", "list")] == ["model"]


def test_mistakes_end_with_the_remedy(cli: Cli) -> None:
    """No subject, two of them, nothing to set, an unknown subject, half a nano-dollar: nothing is set."""
    assert "name one of" in cli.run("limits", "set", "--rpm", "60", exit_code=2).stderr
    assert "name one of" in cli.run("limits", "set", "--key", "a", "--model", "teacher", exit_code=2).stderr
    assert "--rpm 60" in cli.run("limits", "set", "--model", "teacher", exit_code=2).stderr
    assert "keys list" in cli.run("limits", "set", "--key", "a", "--rpm", "1", exit_code=1).stderr
    for wrong in (("--usd-day", "0.0000000001"), ("--usd-day", "much"), ("--rpm", "-1"), ("--rpm", "1.5")):
        assert "none for no limit" in cli.run("limits", "set", "--model", "teacher", *wrong, exit_code=2).stderr
    assert cli.rows("limits", "list") == []
