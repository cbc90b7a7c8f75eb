"""docs/quickstart.md and the other pages for apps: what they show runs, against a gateway and the stock SDK."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.conftest import ROOT
from tests.fakes import FakeVllm, fake_vllm
from tests.gateway.conftest import RunningGateway, running_gateway, settings_for


@pytest.fixture(scope="module")
def vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM."""
    with fake_vllm() as fake:
        yield fake


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, vllm: FakeVllm) -> Iterator[RunningGateway]:
    """A gateway in front of it."""
    with running_gateway(settings_for(tmp_path_factory.mktemp("house"), vllm.url)) as running:
        yield running


@pytest.fixture
def surroundings(house: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two variables that the quickstart begins with."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{house.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", house.key())


def blocks(page: str, language: str) -> list[str]:
    """The code of a page in that language, in order."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("surroundings")
def test_the_quickstart_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Its Python, block after block as a reader would paste it, prints what the page promises."""
    place: dict[str, Any] = {}
    for code in blocks("quickstart.md", "python"):
        exec(compile(code, "docs/quickstart.md", "exec"), place)
    output = capsys.readouterr().out
    assert "Hello there!" in output
    assert "x-spiritsafe-model teacher" in output
    assert "x-spiritsafe-route-reason no_student" in output
    assert re.search(r"\d+ tokens", output)
    assert "model_not_found – The model 'no-such-model' does not exist" in output


@pytest.mark.usefixtures("surroundings")
def test_the_quickstarts_commands_run(require_program: Callable[[str, str], str]) -> None:
    """Its curl lists the models."""
    require_program("curl", "curl")
    export, *commands = blocks("quickstart.md", "sh")
    assert set(re.findall(r"export (\w+)=", export)) == {"OPENAI_BASE_URL", "OPENAI_API_KEY"}
    for command in commands:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=20)
        assert '"id": "auto"' in done.stdout


def test_the_training_opt_in_runs(house: RunningGateway) -> None:
    """The page on privacy shows a request that is recorded as one that may train."""
    place: dict[str, Any] = {"client": OpenAI(base_url=f"{house.url}/v1", api_key=house.key("trainer"))}
    (code,) = blocks("privacy.md", "python")
    exec(compile(code, "docs/privacy.md", "exec"), place)
    assert house.record()["store"] is True


def test_every_python_of_the_apps_pages_compiles() -> None:
    """Also what can't run here, such as an address of somebody else's."""
    pages = [page.name for page in Path(ROOT / "docs").glob("*.md")]
    for page in pages:
        for code in blocks(page, "python"):
            compile(code, page, "exec")
