"""The matrix SDK × endpoint × fault: nothing in it breaks the contract, and the page in docs/ says what it says."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance import report, suite
from tests.conformance.__main__ import PAGE
from tests.conformance.faults import FAULTS, TEXT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require_environment: Callable[[str], Path]) -> suite.Run:
    """Every case, run once for all tests."""
    require_environment("bench")
    return suite.run(tmp_path_factory.mktemp("conformance"))


def test_no_outcome_breaks_the_contract(run: suite.Run) -> None:
    """Whoever asks, wherever, however the backend fails: a whole answer or an exception, and one true record."""
    wrong = [f"{outcome.case.id}: {words}" for outcome in run.outcomes for words in report.violations(outcome)]
    assert wrong == []


def test_every_fault_was_played(run: suite.Run) -> None:
    """No combination is left out: each SDK meets each fault on each of its endpoints."""
    met = {(outcome.case.sdk.name, outcome.case.endpoint, outcome.case.fault.name) for outcome in run.outcomes}
    for sdk in suite.SDKS:
        for endpoint in sdk.endpoints:
            for fault in FAULTS:
                assert (sdk.name, endpoint, fault.name) in met or fault.modes == ("stream",)


def test_conveniences_of_the_sdks(run: suite.Run) -> None:
    """Lists of models parse in either form, and the helpers that put a stream together end with the whole answer."""
    for name, found in run.conveniences.items():
        assert found["models"][0] == "auto"
        assert found["helper"] == TEXT, name
    assert run.conveniences["openai"]["response"] == TEXT
    assert (run.conveniences["anthropic"]["model"], run.conveniences["anthropic"]["tokens"]) == (True, 7)


def test_the_page_is_true(run: suite.Run) -> None:
    """docs/conformance.md is what the suite finds; write it anew with `python -m tests.conformance`."""
    differences = list(difflib.unified_diff(PAGE.read_text().splitlines(), report.table(run).splitlines(), lineterm=""))
    assert differences == []
