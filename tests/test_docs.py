"""The documentation fails here when it says less than the code: what a reader can name is written down."""

import ast
import dataclasses
import importlib
import pkgutil
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import click

from tests.conftest import ROOT

PACKAGES = ("gateway", "detector", "distiller", "dashboards")
METRIC_TYPES = {"Counter", "Gauge", "Histogram", "SampledHistogram", "Summary", "Info", "Enum"}


def _documentation() -> str:
    """All Markdown pages below docs/ as one text."""
    return "\n".join(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))


def _missing(names: Iterator[str], form: str) -> list[str]:
    """The names that no page mentions, `form` being how a page writes one; fails where there is nothing to look for."""
    wanted, text = list(names), _documentation()
    assert wanted
    return [name for name in wanted if not re.search(form.format(re.escape(name)), text)]


def _targets() -> Iterator[str]:
    yield from re.findall(r"^([a-z][a-z-]*):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


def _commands(command: click.Command, path: str) -> Iterator[str]:
    """`spiritsafe accounts create`, … for every command that does something."""
    if not isinstance(command, click.Group):
        yield path
        return
    # Asked through click, because a group may load its commands on demand.
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None, f"{path} lists {name}, which does not exist"
        yield from _commands(child, f"{path} {name}")


def _sections(kind: type, name: str = "") -> Iterator[tuple[str, type]]:
    """(section of spiritsafe.toml, its dataclass), the nameless top level first."""
    yield name, kind
    for field, hint in typing.get_type_hints(kind).items():
        inner = typing.get_args(hint)
        for part in (hint, *inner, *(part for item in inner for part in typing.get_args(item))):
            if dataclasses.is_dataclass(part) and isinstance(part, type):
                yield from _sections(part, f"{name}.{field}" if name else field)


def _metrics() -> Iterator[str]:
    """Every metric that a source file declares, as prometheus_client is given it."""
    for package in PACKAGES:
        for source in (ROOT / package).rglob("*.py"):
            yield from _declared_metrics(source)


def _declared_metrics(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        first = node.args[0]
        if called in METRIC_TYPES and isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def _tables() -> Iterator[str]:
    """Every table of the control plane."""
    ledger = importlib.import_module("gateway.ledger")
    for module in pkgutil.iter_modules(ledger.__path__, "gateway.ledger."):
        # A table registers itself when its module is imported; `migrations` is a folder of scripts.
        if not module.ispkg:
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name != "boto3":  # an extra; what needs it keeps no table
                    raise
    yield from importlib.import_module("gateway.ledger.database").metadata.tables


def test_every_make_target_is_documented() -> None:
    """A reader of docs/ learns every chore's name."""
    assert _missing(_targets(), r"make {}\b(?!-)") == []


def test_every_command_is_documented() -> None:
    """Every `spiritsafe` command is written out in full in docs/."""
    root = importlib.import_module("gateway.cli").main
    assert _missing(_commands(root, "spiritsafe"), r"{}\b(?!-)") == []


def test_every_setting_is_documented() -> None:
    """docs/configuration.md has a heading for each section of spiritsafe.toml, and below it a row for each key."""
    page = (ROOT / "docs/configuration.md").read_text()
    blocks = re.split(r"^#+ ", page, flags=re.MULTILINE)
    missing = []
    for name, kind in _sections(importlib.import_module("gateway.settings").Settings):
        heading = re.compile(rf"[^\n]*`\[+{re.escape(name)}\]+`" if name else r"[^\n]*`spiritsafe\.toml`")
        text = "\n".join(block for block in blocks if heading.match(block))
        nested = {section.rpartition(".")[2] for section, _ in _sections(kind) if section}
        keys = [field.name for field in dataclasses.fields(kind) if field.name not in nested | {"file"}]
        missing += [f"{name}.{key}".lstrip(".") for key in keys if not re.search(rf"^\| `{key}`", text, re.MULTILINE)]
    assert missing == []


def test_every_metric_is_documented() -> None:
    """docs/ explains every metric that an operator can scrape."""
    assert _missing(_metrics(), r"\b{}(_total)?\b") == []


def test_every_cell_of_partitions_is_tested() -> None:
    """docs/partitions.md names every test of partitions, and no other; each cell of its first table names one."""
    page = (ROOT / "docs/partitions.md").read_text()
    sources = (ROOT / "tests/gateway/partitions").glob("test_*.py")
    tests = {name for source in sources for name in re.findall(r"^def (test_\w+)", source.read_text(), re.MULTILINE)}
    assert set(re.findall(r"`(test_\w+)`", page)) == tests
    rows = [line.split(" | ")[1:] for line in page.splitlines() if line.startswith("| ") and "`test_" in line]
    assert [cell for row in rows for cell in row if "`test_" not in cell] == []


def test_every_table_is_documented() -> None:
    """docs/ describes every table of the control plane."""
    assert _missing(_tables(), r"`{}`") == []
