"""What keeps a house from being built, each with its remedy."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.house import House, HouseError, building
from gateway.house.building import locked
from gateway.house.narrator import Narrator
from gateway.ledger import registry
from gateway.ledger.identifiers import now
from gateway.settings import GatewaySettings, ModelSettings, OperatorSettings, Settings
from tests.control_plane import fresh


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with a teacher, on any free ports."""
    teacher = ModelSettings("teacher", backends=("http://127.0.0.1:1",))
    return Settings(
        data_dir=tmp_path, models=(teacher,), gateway=GatewaySettings(port=0), operator=OperatorSettings(port=0)
    )


def test_one_house_at_a_time(settings: Settings) -> None:
    """A folder that is in use is refused, naming who uses it; it is free again when that one is gone."""
    refusal = rf"process {os.getpid()}\) runs on .* already.*another data_dir"
    with locked(settings.data_dir), pytest.raises(HouseError, match=refusal):
        House(settings, Narrator(print)).run()
    with locked(settings.data_dir):
        pass


def test_a_folder_that_cannot_be_written_is_named(settings: Settings) -> None:
    """A data_dir that is no folder is an error in words, with the setting's name."""
    file = settings.data_dir / "file"
    file.touch()
    with pytest.raises(HouseError, match=r"file.* can't be written .* another data_dir"):
        House(replace(settings, data_dir=file), Narrator(print)).run()


def test_a_name_means_one_model(settings: Settings) -> None:
    """A name both in the file and in the registry is an error at the start."""
    student = registry.Student(
        *("teacher", 1, "tickets", "chat.completions", "ab", "f" * 64, "teacher", "x", "trained", now()),
        *(10, 2048, "Apache-2.0", {}),
    )
    database = fresh(settings.database_url)
    with database.write() as connection:
        registry.add(connection, student, "test")
    database.close()
    with pytest.raises(HouseError, match=r"'teacher' is the name of a model in .* rename the model in the file"):
        House(settings, Narrator(print)).run()


@pytest.mark.parametrize("section", ["gateway", "operator"])
def test_a_taken_port_names_its_setting(settings: Settings, section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another program holds is refused before anything is started, even where workers could share it."""
    monkeypatch.setattr(building, "PORT_PATIENCE_S", 0.2)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = replace(settings, **{section: replace(getattr(settings, section), port=port)})
        with pytest.raises(HouseError, match=rf"port {port} of 127\.0\.0\.1 is taken.*{section}\.port"):
            House(taken, Narrator(print)).run()
