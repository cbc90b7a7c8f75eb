"""Cheap passwords, and skip rules: a test that lacks a system program or an environment says how to get it.

With `SPIRITSAFE_REQUIRE_SYSTEM=1`, as in `.ci/run`, it fails instead, so that CI never passes by skipping.
"""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import argon2
import pytest

from gateway.ledger import operators
from gateway.ledger.database import Database, open_database
from gateway.ledger.identifiers import uuid7
from tests import properties as properties  # registers the profiles before one of them is loaded
from tests.postgresql import PostgresServer

REAL_HASHER = operators.HASHER
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def cheap_passwords() -> Iterator[None]:
    """Hash passwords in microseconds: the real 64 MiB each would be a tenth of what all quick tests take."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(operators, "HASHER", argon2.PasswordHasher.from_parameters(argon2.profiles.CHEAPEST))
        yield


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run whatever has a `database`, a `cli` or an `api` on a control plane at `control_url` on both databases."""
    names = set(metafunc.fixturenames)
    if "control_url" in names and names & {"database", "cli", "api"}:
        on_postgresql = pytest.param("postgresql", marks=pytest.mark.postgresql)
        metafunc.parametrize("control_url", ["sqlite", on_postgresql], indirect=True)


@pytest.fixture
def control_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty control plane of the test's own: a file still to be made, or a database of the server."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'data' / 'control.sqlite'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{uuid7().replace('-', '')}"
    yield server.url(name, template="migrated")
    server.drop(name)


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[Database]:
    """A control plane of the test's own on the server, for what only PostgreSQL does."""
    name = f"test_{uuid7().replace('-', '')}"
    database = Database(postgres.url(name, template="migrated"))
    yield database
    database.close()
    postgres.drop(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the session, with an empty control plane called `migrated` to copy."""
    server = PostgresServer()
    try:
        open_database(server.url("migrated")).close()
        yield server
    finally:
        server.remove()


TOGETHER = ("tests/real/", "tests/gateway/partitions/")  # each folder shares what is costly, or may stand once only


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell xdist's `loadgroup` what stays together, and put what has slow tests first: it would end alone."""
    ranks: dict[str, int] = {}
    groups: dict[str, str] = {}
    for item in items:
        path = item.nodeid.partition("::")[0]
        group = groups[item.nodeid] = next((folder for folder in TOGETHER if path.startswith(folder)), path)
        rank = TOGETHER.index(group) if group in TOGETHER else len(TOGETHER) + (item.get_closest_marker("slow") is None)
        ranks[group] = min(ranks.get(group, rank), rank)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: ranks[groups[item.nodeid]])


def pytest_collection() -> None:
    """What collecting makes stays; looking through it for garbage again and again is a tenth of a run."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Set it aside for good."""
    gc.freeze()
    gc.enable()


def _lack(reason: str) -> NoReturn:
    if os.environ.get("SPIRITSAFE_REQUIRE_SYSTEM") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require_program() -> Callable[[str, str], str]:
    """Return `require_program(name, debian_package)`: the program's path, or a skip that names the package."""

    def require(name: str, debian_package: str) -> str:
        path = shutil.which(name)
        return path or _lack(f"needs `{name}`: apt-get install {debian_package}")

    return require


@pytest.fixture(scope="session")
def require_environment() -> Callable[[str], Path]:
    """Return `require_environment(name)`, such as `vllm` or `bench`: its Python, or a skip that names the target."""

    def require(name: str) -> Path:
        python = ROOT / f".venv-{name}" / "bin" / "python"
        return python if python.exists() else _lack(f"needs .venv-{name}: make setup-{name}")

    return require


@pytest.fixture(scope="session")
def require_model() -> Callable[[str], Path]:
    """Return `require_model(name)`, name `base` or `teacher`: its folder, or a skip that names the target."""

    def require(name: str) -> Path:
        folder = ROOT / "models" / name
        return folder if (folder / "config.json").exists() else _lack(f"needs models/{name}: make setup-models")

    return require
