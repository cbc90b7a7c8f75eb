"""The lake read in place by other engines: the programs of docs/operating.md run as they are printed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from tests.conftest import ROOT
from tests.gateway.ledger.records import record


def _program(engine: str) -> str:
    """The page's program that imports the engine."""
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "operating.md").read_text(), re.DOTALL)
    (program,) = [text for text in programs if f"import {engine}" in text]
    return str(program)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_the_printed_query_answers(tmp_path: Path, engine: str) -> None:
    """Each account with its requests and what the query adds up, from a table of several commits."""
    if importlib.util.find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed: `make setup` installs it, locked in requirements/dev.txt")
    lake = Lake(tmp_path / "spiritsafe-data" / "lake" / "traffic")
    usage = {"output_tokens": 10, "input_tokens": 1}
    lake.append(to_table([record("a", usage=usage, cost=10), record("b", account="other", usage=usage, cost=10)]))
    lake.append(to_table([record("c", usage=usage, cost=10)]))
    command = [sys.executable, "-c", _program(engine)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"app\b.*\b2\b.*\b20\b", result.stdout)
    assert re.search(r"other\b.*\b1\b.*\b10\b", result.stdout)
