"""`spiritsafe fleet …`."""

from __future__ import annotations

from gateway.fleet.load import Load
from gateway.fleet.observation import FleetObserver
from gateway.fleet.pools import Fleet
from gateway.ledger import metric_files
from gateway.metrics import GatewayMetrics
from tests.gateway.commands.cli import Cli

URL = "http://127.0.0.1:8001"


def test_a_backend_is_drained_and_put_back(cli: Cli) -> None:
    """However the URL is written; the list says who did it."""
    assert [row["drained"] for row in cli.rows("fleet", "list")] == [False]
    cli.run("fleet", "drain", URL + "/v1/", "--operator", "ann", "--note", "new driver")
    (row,) = cli.rows("fleet", "list")
    assert (row["model"], row["url"], row["drained"], row["drained_by"]) == ("teacher", URL, True, "ann")
    cli.run("fleet", "drain", URL, "--undo")
    assert [row["drained"] for row in cli.rows("fleet", "list")] == [False]
    assert "is not drained" in cli.run("fleet", "drain", URL, "--undo", exit_code=1).stderr


def test_an_unknown_backend_is_refused_with_those_there_are(cli: Cli) -> None:
    """A misspelt URL must not look like a drained one."""
    assert URL in cli.run("fleet", "drain", "http://127.0.0.1:8002", exit_code=1).stderr


def test_the_list_shows_what_the_workers_told(cli: Cli) -> None:
    """Their own open requests, the server's own counts, the breaker; nothing where no worker runs."""
    assert cli.rows("fleet", "list")[0]["state"] is None
    metrics, fleet = GatewayMetrics(), Fleet()
    pool = fleet.pool("teacher", [URL])
    pool.backends[0].report(Load(running=3, waiting=1, kv_cache=0.5))
    pool.backends[0].inflight = 2
    FleetObserver(metrics).observe([("teacher", pool)])
    metric_files.publish(cli.settings.data_dir / "metrics", "gateway-w0", metrics.registry)
    (row,) = cli.rows("fleet", "list")
    found = {name: row[name] for name in ("state", "in_flight", "running", "waiting", "kv_cache")}
    assert found == {"state": "closed", "in_flight": 2, "running": 3, "waiting": 1, "kv_cache": 0.5}
    assert "closed" in cli.run("fleet", "list").stdout
