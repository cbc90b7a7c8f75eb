"""`spiritsafe doctor`: a healthy house has no complaint, and each fault is found, with the remedy."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.commands.remote_checks import certificate, clock
from gateway.ledger import audit, keys
from gateway.ledger.database import Database, open_database
from gateway.ledger.identifiers import now
from tests.fakes import FakeVllm, fake_vllm
from tests.gateway.commands.cli import Cli


@pytest.fixture(scope="module")
def vllm() -> Iterator[FakeVllm]:
    """A backend that serves `teacher`."""
    with fake_vllm() as fake:
        yield fake


@pytest.fixture
def house(cli: Cli, vllm: FakeVllm) -> Cli:
    """An installation whose teacher lives, with its secret, closed to others."""
    vllm.forget()
    vllm.models = ["teacher"]
    cli.file.write_text(cli.file.read_text().replace("http://127.0.0.1:8001", vllm.url))
    cli.file.chmod(0o600)  # PostgreSQL's address has a password in it
    cli.settings.data_dir.mkdir(exist_ok=True)
    cli.settings.data_dir.chmod(0o700)
    database = open_database(cli.settings.database_url)
    with database.read() as connection:
        keys.ensure_secret(connection, cli.settings.data_dir)
    database.close()
    return cli


def complaints(cli: Cli, exit_code: int) -> dict[tuple[str, str], dict[str, Any]]:
    """What is not right, by check and subject, but that no house runs; every complaint has a remedy."""
    lines = cli.run("doctor", "--json", "--quiet", exit_code=exit_code).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert all(row["remedy"] for row in rows)
    return {(row["check"], row["subject"]): row for row in rows if row["subject"] != "spiritsafe up"}


def test_a_healthy_house(house: Cli) -> None:
    """Every check is shown, none complains, and the status is 0."""
    assert complaints(house, 0) == {}
    output = house.run("doctor").stdout
    for check in ("python", "settings", "data_dir", "secret", "disk", "control plane", "backend"):
        assert f"ok      {check}: " in output


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    """Looking at a house that was never started makes no file; its backend is missed."""
    file = tmp_path / "spiritsafe.toml"
    file.write_text('[[models]]\nname = "a"\nrole = "teacher"\nbackends = ["http://127.0.0.1:9"]\n')
    found = complaints(Cli(file), 1)
    assert {check for check, _ in found} == {"data_dir", "control plane", "backend"}
    assert list(tmp_path.iterdir()) == [file]


def test_files_that_others_may_read(house: Cli) -> None:
    """The secret, a settings file with a token, and the folder of the prompts."""
    data_dir = house.settings.data_dir
    data_dir.chmod(0o755)
    (data_dir / "secret").chmod(0o644)
    house.file.write_text(house.file.read_text() + '[operator]\nscrape_token = "t"\n')
    house.file.chmod(0o644)
    found = complaints(house, 1)
    assert found["secret", str(data_dir / "secret")]["remedy"].startswith("chmod 600")
    assert found["settings", str(house.file)]["state"] == "error"
    assert found["data_dir", str(data_dir)]["state"] == "warning"


def test_another_installations_secret(house: Cli) -> None:
    """It is found out by the keys, and what to do is said."""
    house.run("accounts", "create", "acme")
    house.run("keys", "create", "--account", "acme")
    (house.settings.data_dir / "secret").write_bytes(os.urandom(32))
    assert "restore it from the backup" in complaints(house, 1)["secret", "keys"]["remedy"]
    (house.settings.data_dir / "secret").write_bytes(b"short")
    assert ("secret", str(house.settings.data_dir / "secret")) in complaints(house, 1)


def test_a_schema_of_another_release(house: Cli) -> None:
    """A newer one is an error, an older one is brought up to date by the next start, not by looking."""
    for version, code in (("9999", 1), ("0001", 0)):
        database = Database(house.settings.database_url)
        with database.write() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": version})
        database.close()
        (found,) = complaints(house, code).values()
        assert version in found["found"]


@pytest.mark.parametrize(
    ("models", "words"), [(["student"], "serves student"), ([], "/v1/models")], ids=["another", "none"]
)
def test_a_backend_that_serves_something_else(house: Cli, vllm: FakeVllm, models: list[str], words: str) -> None:
    """The name is compared with what the server says."""
    vllm.models = models
    (found,) = complaints(house, 1).values()
    assert words in found["found"]


def test_clocks() -> None:
    """More than a second apart is an error, whichever is ahead."""
    assert clock("db", time.time() + 0.2).state == "ok"
    assert clock("db", time.time() - 3).state == "error"
    assert "+60" in clock("db", time.time() + 60).found


def test_a_clock_that_went_back(house: Cli) -> None:
    """Rows of the audit log from the future are seen."""
    house.run("accounts", "create", "acme")
    database = Database(house.settings.database_url)
    with database.write() as connection:
        row = connection.execute(sa.select(audit.table)).mappings().first()
        assert row is not None
        later = {**row, "number": row["number"] + 1, "id": "later", "time": now() + timedelta(hours=1)}
        connection.execute(sa.insert(audit.table).values(**later))
    database.close()
    assert ("clock", "audit log") in complaints(house, 1)


def test_a_store_that_is_away(house: Cli) -> None:
    """The address is named without its password."""
    house.file.write_text(house.file.read_text() + '[limits]\nstore = "valkey://:s3cret@127.0.0.1:9/0"\n')
    house.file.chmod(0o600)
    output = house.run("doctor", exit_code=1).output
    assert "limits: 127.0.0.1:9" in output
    assert "s3cret" not in output


def test_a_full_budget_and_a_torn_segment(house: Cli) -> None:
    """Both name their runbook."""
    folder = house.settings.data_dir / "spool" / "w0"
    folder.mkdir(parents=True)
    (folder / "1.torn").write_bytes(b"x" * 100)
    house.file.write_text(house.file.read_text() + "[spool]\nbudget_bytes = 100\n")
    found = complaints(house, 1)
    assert "disk-budget-runs-out" in found["disk", "spool.budget_bytes"]["remedy"]
    assert "spool-damaged" in found["spool", str(folder / "1.torn")]["remedy"]


@contextmanager
def https(folder: Path, days: int) -> Iterator[str]:
    """An https server on loopback whose self-signed certificate ends after some days."""
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", str(days)]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*made, *files, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("days", "state"), [(90, "ok"), (5, "warning")])
def test_certificates(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    require_program: Callable[[str, str], str],
    days: int,
    state: str,
) -> None:
    """One that nobody vouches for is an error; one that ends within two weeks is a warning."""
    require_program("openssl", "openssl")
    with https(tmp_path, days) as url:
        assert certificate(url).state == "error"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        found = certificate(url)
        assert (found.state, f"{days - 1} days" in found.found or f"{days} days" in found.found) == (state, True)
