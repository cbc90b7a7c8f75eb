"""`spiritsafe limits …`."""

from __future__ import annotations

from datetime import timedelta

from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import to_table
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.records import record


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


def test_budgets_are_rebuilt_from_the_records(cli: Cli) -> None:
    """What the lake and the spool hold of this month is counted once, however often it is asked for."""
    cli.run("accounts", "create", "acme")
    cli.run("limits", "set", "--account", "acme", "--usd-day", "1", "--usd-month", "2", "--rpm", "5")
    moment = now()
    month = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    old = record("old", time=to_rfc3339(month - timedelta(seconds=1)), account="acme", cost=1000)
    rows = [record(name, time=to_rfc3339(moment), account="acme", cost=10, origin="live") for name in "ab"]
    other = record("c", time=to_rfc3339(moment), account="other", cost=100, origin="live")
    Lake(cli.settings.data_dir / "lake" / "traffic").append(to_table([old, *rows, other]))
    writer = SpoolWriter(cli.settings.data_dir / "spool", "w0")
    writer.final(rows[1])
    writer.final(rows[0] | {"id": "d"})
    for before in ("0", "0.00000003"):
        day, whole = cli.rows("limits", "rebuild")
        assert (day["budget"], day["before"], day["recorded"]) == ("usd_day", before, "0.00000003")
        assert (whole["budget"], whole["recorded"]) == ("usd_month", "0.00000003")
    writer.close()
