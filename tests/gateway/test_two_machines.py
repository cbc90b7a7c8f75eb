"""Two machines with two workers each share a control plane: what is decided on one binds on all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gateway.ledger.database import Database
from tests.conftest import ROOT
from tests.gateway.commands.cli import Cli
from tests.gateway.conftest import eventually
from tests.postgresql import PostgresServer

SETTINGS = """
database = "{database}"
data_dir = "data"
[[models]]
name = "teacher"
backends = ["http://127.0.0.1:9"]
"""


@contextmanager
def machine(folder: Path, database: str) -> Iterator[str]:
    """Run `spiritsafe gateway` with two workers and a data folder of its own; yields its address."""
    file = folder / "spiritsafe.toml"
    file.write_text(SETTINGS.format(database=database))
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--port", "0", "--workers", "2", "--json"]
    with (folder / "log").open("wb") as log:
        parent = subprocess.Popen([*command, "--config", str(file)], stdout=subprocess.PIPE, stderr=log, cwd=ROOT)
    assert parent.stdout is not None
    try:
        yield json.loads(parent.stdout.readline())["url"]
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def statuses(url: str, key: str) -> set[int]:
    """Ask what needs no model, over connections enough to meet every worker; 0 where nobody answers."""
    found = set()
    for _ in range(12):
        try:
            found.add(httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code)
        except httpx.TransportError:
            found.add(0)
    return found


@pytest.mark.slow
@pytest.mark.postgresql
def test_a_decision_binds_on_every_machine_within_a_second(
    tmp_path: Path, postgres: PostgresServer, postgres_database: Database
) -> None:
    """A key is good and then refused on all four workers, also after the server was stopped and came back."""
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        (folder / "data").mkdir(parents=True)
    cli = Cli(folders[0] / "spiritsafe.toml")
    with machine(folders[0], postgres_database.url) as first:
        cli.run("accounts", "create", "acme")
        made = [cli.rows("keys", "create", "--account", "acme")[0] for _ in range(2)]
        shutil.copy2(folders[0] / "data" / "secret", folders[1] / "data")
        with machine(folders[1], postgres_database.url) as second:
            for url in (first, second):
                eventually(lambda url=url: statuses(url, made[0]["key"]) == {200}, 30.0)  # type: ignore[misc]
            cli.run("keys", "revoke", made[0]["id"])
            time.sleep(1.0)
            assert [statuses(url, made[0]["key"]) for url in (first, second)] == [{401}, {401}]
            postgres.stop()
            assert [statuses(url, made[1]["key"]) for url in (first, second)] == [{200}, {200}]
            postgres.start()
            cli.run("keys", "revoke", made[1]["id"])
            time.sleep(1.0)
            assert [statuses(url, made[1]["key"]) for url in (first, second)] == [{401}, {401}]
