"""The documentation fails here when it says less than the code: what a reader can name is written down."""

import dataclasses
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import click

from gateway import errors
from tests import metrics_table
from tests.conftest import ROOT

PACKAGES = ("gateway", "detector", "distiller", "dashboards")


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
    """docs/metrics.md has the table that the code makes, metric by metric."""
    page = (ROOT / "docs/metrics.md").read_text()
    assert page == metrics_table.with_table(page), "run `python -m tests.metrics_table`"


def test_every_error_is_documented() -> None:
    """docs/errors.md has a row for each code that a caller may get, with its status."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert {code for code, _ in rows} == errors.CODES
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GatewayError)]
    possible = {(kind.code or kind.type, str(kind.status)) for kind in kinds}
    given = {"invalid_request_error", "context_length_exceeded"}  # by whoever raises them, with 400
    assert {row for row in rows if row[0] not in given} <= possible


def _anchors(page: Path) -> set[str]:
    """The names that headings get, as GitHub and Python-Markdown make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def test_no_link_is_dead() -> None:
    """Every link of a page leads to a file, and to a heading that is there; none of docs/ leads out of it."""
    dead = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            inside = page.parent == ROOT or file.is_relative_to(ROOT / "docs")
            if not file.is_file() or not inside or (anchor and anchor not in _anchors(file)):
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert dead == []


def test_every_page_is_in_the_sites_navigation() -> None:
    """But for decisions and runbooks, which their own pages list."""
    text = (ROOT / "zensical.toml").read_text()
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if f'"{page}"' not in text} == set()
    assert set(re.findall(r'"([\w/-]+\.md)"', text)) <= pages | {"decisions/README.md"}
    listed = (ROOT / "docs/decisions/README.md").read_text()
    assert [page.name for page in (ROOT / "docs/decisions").glob("0*.md") if f"({page.name})" not in listed] == []


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
