"""`spiritsafe erase`, `traffic export`, retention, and `accounts withdraw`, `hold`, `release` and `retention`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import SCHEMA
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.records import record


def _import(cli: Cli, *rows: dict[str, Any]) -> None:
    cli.run("traffic", "import", "-", stdin="\n".join(json.dumps(row) for row in rows))


def _wire(name: str) -> dict[str, Any]:
    """A finished request as a worker spools it."""
    request = {"model": "teacher", "messages": [{"role": "user", "content": f"HERON question {name}"}]}
    fields = {"model_requested": "teacher", "origin": "live", "wire": {"request": request}}
    return {key: value for key, value in record(name, **fields).items() if key != "messages"}


def test_erase_brings_in_what_waits_and_prints_the_receipt(cli: Cli) -> None:
    """Where no ingester runs the command takes its part: spooled requests are erased like those of the lake."""
    cli.run("accounts", "create", "app", "--consent")
    cli.run("keys", "create", "--account", "app")
    writer = SpoolWriter(cli.settings.data_dir / "spool", "w0")
    writer.final(_wire("a"))
    writer.close()
    _import(cli, record("b"))
    (receipt,) = cli.rows("erase", "app")
    assert (receipt["rows"], receipt["scan"]["found"], receipt["scan"]["pieces"]) == (2, 0, 2)
    assert cli.rows("accounts", "list") == []
    assert cli.rows("keys", "list") == []
    assert cli.rows("traffic", "tail") == []
    (row,) = cli.rows("traffic", "verify")
    assert row["sound"]
    assert not any(b"HERON" in path.read_bytes() for path in cli.settings.data_dir.rglob("*") if path.is_file())


def test_a_hold_is_shown_and_stops_an_erasure(cli: Cli) -> None:
    """`accounts list` has it; the refusal names the command that ends it."""
    cli.run("accounts", "create", "app")
    cli.run("accounts", "hold", "app", "--note", "case 7", "--operator", "mara")
    (row,) = cli.rows("accounts", "list")
    assert row["hold"] is True
    assert "spiritsafe accounts release app" in cli.run("erase", "app", exit_code=1).stderr
    cli.run("accounts", "release", "app")
    (receipt,) = cli.rows("erase", "app")
    assert receipt["rows"] == 0


def test_withdraw_prints_its_receipt(cli: Cli) -> None:
    """Consent ends, the account and its rows stay."""
    cli.run("accounts", "create", "app", "--consent")
    _import(cli, record("a"))
    (receipt,) = cli.rows("accounts", "withdraw", "app")
    assert (receipt["kind"], receipt["account"]) == ("withdrawal", "app")
    (row,) = cli.rows("accounts", "list")
    assert row["consent"] is None
    assert [found["id"] for found in cli.rows("traffic", "tail")] == ["a"]


def test_retention_is_set_and_applied(cli: Cli) -> None:
    """The command says what holds now; the step removes what is older and says how much."""
    cli.run("accounts", "create", "app")
    (row,) = cli.rows("accounts", "retention", "app", "--text-days", "7")
    assert (row["text_days"], row["rows_days"], row["keep_text"]) == (7, 400, True)
    (row,) = cli.rows("accounts", "retention", "app", "--zero")
    assert (row["text_days"], row["keep_text"]) == (0, False)
    (row,) = cli.rows("accounts", "retention", "app", "--no-zero")
    assert (row["text_days"], row["keep_text"]) == (7, True)
    _import(cli, record("old", time="2020-01-01T00:00:00Z"))
    done = {row["step"]: row["files"] for row in cli.rows("traffic", "maintain")}
    assert done["retention"] == 1
    assert cli.rows("traffic", "tail") == []


def test_export_writes_the_chosen_rows(cli: Cli, tmp_path: Path) -> None:
    """One Parquet file in the lake's columns, readable by its owner alone; texts only where they are wanted."""
    days = [record(str(day), time=f"2026-11-{day}T09:30:00Z", account=f"app{day % 2}") for day in range(10, 20)]
    _import(cli, *days)
    file = tmp_path / "out.parquet"
    period = ("--since", "2026-11-12T00:00:00Z", "--until", "2026-11-18T00:00:00Z")
    (done,) = cli.rows("traffic", "export", str(file), "--account", "app0", *period)
    table = pq.read_table(file)
    assert table.schema.equals(SCHEMA)
    assert done["rows"] == table.num_rows == 3
    assert sorted(table["id"].to_pylist()) == ["12", "14", "16"]
    assert "question 12" in str(table["messages"].to_pylist())
    assert file.stat().st_mode & 0o077 == 0
    cli.run("traffic", "export", str(file), "--no-text")
    table = pq.read_table(file)
    assert (table.num_rows, table["messages"].null_count) == (10, 10)
    assert table["minhash"].null_count == 0
    assert [path.name for path in tmp_path.glob("*.parquet*")] == ["out.parquet"]


def test_an_export_of_an_empty_lake_is_an_empty_table(cli: Cli, tmp_path: Path) -> None:
    """A file with the columns and no rows."""
    cli.run("traffic", "export", str(tmp_path / "out.parquet"))
    assert pq.read_table(tmp_path / "out.parquet").schema.equals(SCHEMA)
