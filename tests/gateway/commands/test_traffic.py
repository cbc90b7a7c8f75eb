"""`spiritsafe traffic …`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.spool import SpoolWriter, segments
from gateway.ledger.traffic import to_table
from tests.conftest import ROOT
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.records import begun, record


def _import(cli: Cli, *rows: dict[str, object]) -> None:
    cli.run("traffic", "import", "-", stdin="\n".join(json.dumps(row) for row in rows))


def test_import_reports_what_it_did(cli: Cli, tmp_path: Path) -> None:
    """Counts on stdout, the first bad lines and the progress on stderr."""
    file = tmp_path / "history.jsonl"
    file.write_text("\n".join([json.dumps(record("a")), json.dumps(record("b")), "nonsense"]))
    result = cli.run("traffic", "import", str(file))
    assert result.stdout.splitlines()[:3] == ["rows: 2", "already: 0", "rejected: 1"]
    assert "line 3: is no JSON" in result.stderr
    (again,) = cli.rows("traffic", "import", str(file))
    assert (again["rows"], again["already"]) == (0, 2)


def test_tail_prints_the_newest_last(cli: Cli) -> None:
    """The last records by their time, each in the documented form with --json."""
    _import(cli, *[record(str(day), time=f"2026-11-{day}T09:30:00Z", account=f"app{day % 2}") for day in range(10, 20)])
    assert [row["id"] for row in cli.rows("traffic", "tail", "--limit", "3")] == ["17", "18", "19"]
    assert [row["id"] for row in cli.rows("traffic", "tail", "--account", "app0", "--limit", "2")] == ["16", "18"]
    assert cli.rows("traffic", "tail", "--limit", "0") == []
    (row,) = cli.rows("traffic", "tail", "--limit", "1")
    assert row["messages"] == record("19")["messages"]
    line = cli.run("traffic", "tail", "--limit", "1").stdout
    assert line.startswith("2026-11-19T09:30:00.000Z  app1  ")


def test_tail_looks_back_over_days_of_ingestion(cli: Cli) -> None:
    """When the last day has too few, the day before gives the rest."""
    lake = Lake(cli.settings.data_dir / "lake" / "traffic")
    lake.append(
        to_table([record("1", time="2026-11-20T00:00:00Z"), record("2", time="2026-11-20T01:00:00Z")], "2026-11-20")
    )
    lake.append(to_table([record("3", time="2026-11-01T00:00:00Z")], "2026-11-21"))
    assert [row["id"] for row in cli.rows("traffic", "tail", "--limit", "2")] == ["2", "3"]


def test_tail_of_an_empty_lake_is_empty(cli: Cli) -> None:
    """Before the first record there is nothing, and no error."""
    assert cli.run("traffic", "tail").stdout == ""


@pytest.mark.slow
def test_tail_follows(cli: Cli) -> None:
    """With --follow records are printed as they reach the lake, those of the account asked for only."""
    _import(cli, record("old"))
    command = [sys.executable, "-m", "gateway.cli", "traffic", "tail", "--follow", "--account", "app", "--json"]
    process = subprocess.Popen([*command, "--config", str(cli.file)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["id"] == "old"
    _import(cli, record("other", account="else"), record("new"))
    assert json.loads(process.stdout.readline())["id"] == "new"
    os.kill(process.pid, signal.SIGINT)
    assert process.communicate()[0] == ""
    assert process.returncode == 0


def test_verify_accounts_for_every_request(cli: Cli) -> None:
    """One line for a slot, exit status 0, with what is under way and what is not in the lake yet."""
    writer = SpoolWriter(cli.settings.data_dir / "spool", "w0")
    writer.start(begun("a"))
    writer.final(record("b"))
    (row,) = cli.rows("traffic", "verify")
    assert (row["stream"], row["sound"]) == (writer.stream, True)
    assert (row["completed"], row["waiting"], row["under_way"]) == (1, 1, 1)
    writer.close()


def test_verify_fails_when_a_record_is_lost(cli: Cli) -> None:
    """Exit status 1 and the numbers of the missing records."""
    writer = SpoolWriter(cli.settings.data_dir / "spool", "w0")
    for name in ("a", "b", "c"):
        writer.final(record(name))
    writer.close()
    (path,) = segments(cli.settings.data_dir / "spool" / "w0")
    data = bytearray(path.read_bytes())
    data[data.index(b"question b")] ^= 0xFF
    path.write_bytes(bytes(data))
    ingester = Ingester(cli.settings, dict)
    ingester.run_once()
    ingester.close()
    result = cli.run("traffic", "verify", "--json", exit_code=1)
    assert json.loads(result.stdout)["missing_numbers"] == [2]
    assert "missing or doubled" in result.stderr


def test_verify_says_which_row_is_not_as_written(cli: Cli) -> None:
    """Exit status 1, the file and the record's id; --numbers-only leaves the reading of every row out."""
    _import(cli, record("a"), record("b"))
    (path,) = (cli.settings.data_dir / "lake" / "traffic").rglob("*.parquet")
    table = pq.ParquetFile(path).read()
    place = table.schema.get_field_index("cost")
    pq.write_table(table.set_column(place, "cost", pa.array([None, 99], pa.int64())), path)
    result = cli.run("traffic", "verify", "--json", exit_code=1)
    found = json.loads(result.stdout)
    assert (found["id"], found["row"]) == ("b", 1)
    assert found["file"].endswith(path.name)
    assert "1 rows are not what was written" in result.stderr
    cli.run("traffic", "verify", "--numbers-only")
    path.unlink()
    assert json.loads(cli.run("traffic", "verify", "--json", exit_code=1).stdout)["file"].endswith(path.name)


def test_maintain_tells_what_each_step_did(cli: Cli) -> None:
    """One object a step, with the files it rewrote and how long it took."""
    _import(cli, record("a"))
    _import(cli, record("b"))
    rows = cli.rows("traffic", "maintain")
    assert [(row["step"], row["files"]) for row in rows] == [
        ("erasures", 0),
        ("withdrawn students", 0),
        ("retention", 0),
        ("compact", 2),
        ("order", 0),
        ("erase replaced files", 0),
    ]
    assert all(row["seconds"] >= 0 for row in rows)
