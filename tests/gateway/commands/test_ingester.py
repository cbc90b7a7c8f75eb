"""`spiritsafe ingester run`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from gateway.ledger import metric_files
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.ledger.spool import SpoolWriter
from tests.conftest import ROOT
from tests.gateway.commands.cli import Cli
from tests.gateway.ledger.records import record


def test_once_ingests_and_stops(cli: Cli) -> None:
    """What the spool holds goes to the lake, and the count is printed."""
    writer = SpoolWriter(cli.settings.data_dir / "spool", "w0")
    writer.final(record("a"))
    assert cli.rows("ingester", "run", "--once") == [{"rows": 1}]
    assert cli.rows("ingester", "run", "--once") == [{"rows": 0}]
    writer.close()


def test_a_second_ingester_is_refused(cli: Cli) -> None:
    """Two would double rows, so the second says that the first is there."""
    first = Ingester(cli.settings, dict)
    assert "runs already" in cli.run("ingester", "run", exit_code=1).stderr
    first.close()


@pytest.mark.slow
def test_it_follows_the_spool_publishes_and_stops_in_order(cli: Cli) -> None:
    """A finished request is in the lake within seconds, its metrics are published, SIGTERM brings the rest home."""
    writer = SpoolWriter(cli.settings.data_dir / "spool", "w0")
    command = [sys.executable, "-m", "gateway.cli", "ingester", "run", "--config", str(cli.file)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    lake = Lake(cli.settings.data_dir / "lake" / "traffic")
    writer.final(record("a"))
    _wait_until(lambda: lake.read(["id"]).num_rows == 1)
    metrics = cli.settings.data_dir / "metrics"
    _wait_until(lambda: metrics.exists() and "spiritsafe_ingested_rows_total 1.0" in metric_files.merge(metrics))
    assert "spiritsafe_spool_lag_bytes" in metric_files.merge(metrics)
    writer.final(record("b"))
    process.send_signal(signal.SIGTERM)
    _output, logs = process.communicate()
    assert process.returncode == 0
    assert lake.read(["id"]).num_rows == 2
    assert all(json.loads(line)["process"] == "ingester" for line in logs.splitlines())
    writer.close()


def _wait_until(condition: object, seconds: float = 20.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
