"""Live reload: what changes, what waits for a restart, and that an invalid file changes nothing."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import reload
from gateway.settings import (
    DetectorSettings,
    GatewaySettings,
    ModelSettings,
    ServeSettings,
    Settings,
    SettingsError,
    load_settings,
)
from tests.fakes import FakeVllm
from tests.gateway.conftest import RunningGateway, running_gateway
from tests.gateway.test_app import ask

TEACHER = ModelSettings("teacher", backends=("http://a",))
OTHER = ModelSettings("other", "student", ("http://b",))
TEXT = 'data_dir = "data"\n[[models]]\nname = "teacher"\nbackends = ["{url}"]\n'


def changed(old: Settings, new: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what changes live and what needs a restart, having checked that both are all."""
    adoption = reload.adopt(old, new)
    again = reload.adopt(adoption.settings, new)
    assert (again.changed, again.restart) == ((), adoption.restart)
    return adoption.changed, adoption.restart


def test_models_change_live() -> None:
    """One that changes, one that comes, one that goes; what is served here by vLLM waits."""
    old = Settings(models=(TEACHER, OTHER))
    dearer = dataclasses.replace(TEACHER, input_price=2.0)
    third = dataclasses.replace(OTHER, name="third")
    new = Settings(models=(dearer, third))
    assert changed(old, old) == ((), ())
    assert changed(old, new) == (("models.teacher", "models.other", "models.third"), ())
    served = dataclasses.replace(TEACHER, serve=ServeSettings(path="weights"))
    assert changed(old, Settings(models=(served, OTHER))) == ((), ("models.teacher.serve",))


def test_deadlines_change_live_and_ports_do_not() -> None:
    """What waits is named by its key, and is what it was."""
    old = Settings(models=(TEACHER,))
    gateway = GatewaySettings(total_timeout_s=5.0, port=1, workers=7)
    new = Settings(Path("elsewhere"), "postgresql://x", (TEACHER,), gateway, detector=DetectorSettings(interval_s=9.0))
    fixed = ("data_dir", "database", "gateway.port", "gateway.workers", "detector.interval_s")
    live, restart = changed(old, new)
    assert (live, sorted(restart)) == (("gateway.total_timeout_s",), sorted(fixed))
    settings = reload.adopt(old, new).settings
    assert (settings.gateway.total_timeout_s, settings.gateway.workers, settings.data_dir) == (5.0, 1, old.data_dir)


def test_a_model_may_not_take_a_students_name() -> None:
    """A request could mean either."""
    with pytest.raises(SettingsError, match="'other' is also the name of a student"):
        reload.adopt(Settings(models=(TEACHER,)), Settings(models=(TEACHER, OTHER)), ["other"])


@pytest.fixture
def filed(tmp_path: Path, vllm: FakeVllm) -> Iterator[RunningGateway]:
    """A worker that has read its settings from a file."""
    file = tmp_path / "spiritsafe.toml"
    file.write_text(TEXT.format(url=vllm.url))
    with running_gateway(load_settings(file, {})) as running:
        yield running


def test_an_invalid_file_changes_nothing(
    filed: RunningGateway, vllm: FakeVllm, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even the part of it that is valid; log and report name the line and the remedy."""
    file, before = filed.settings.file, filed.worker.settings
    assert file is not None
    file.write_text(TEXT.format(url="http://127.0.0.1:9") + "[gateway]\nworkers = 0\n")
    with caplog.at_level(logging.ERROR):
        filed.worker.reload()
    assert "line 6: gateway.workers: is 0; at least one worker is needed" in caplog.text
    (report,) = reload.reports(filed.settings.data_dir)
    assert report.number == 1
    assert report.error is not None
    assert report.error in caplog.text
    assert filed.worker.settings is before
    assert ask(filed, filed.key(), model="teacher").status_code == 200
    assert len(vllm.received) == 1


def test_a_valid_file_is_taken_over(filed: RunningGateway, own_vllm: FakeVllm, vllm: FakeVllm) -> None:
    """The next request goes where the file says, under the limits that it says."""
    file, key = filed.settings.file, filed.key()
    assert file is not None
    file.write_text(TEXT.format(url=own_vllm.url) + "[gateway]\nmax_body_bytes = 1024\ntotal_timeout_s = 7200\n")
    filed.worker.reload()
    assert ask(filed, key, model="teacher").status_code == 200
    assert (len(vllm.received), len(own_vllm.received)) == (0, 1)
    assert list(filed.worker.fleet.backends) == [own_vllm.url]
    assert ask(filed, key, model="teacher", user="u" * 2000).status_code == 413
    (report,) = reload.reports(filed.settings.data_dir)
    assert report.changed == ("gateway.max_body_bytes", "gateway.total_timeout_s", "models.teacher")
    assert report.error is None
    assert filed.worker.limiter._lifetime_s > 7200, "what is reserved must outlive the longest answer of now"
    assert filed.worker.drain().grace_s > 7200
    assert report.digest == reload.digest_of(file)
