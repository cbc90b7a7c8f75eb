"""A model in the shadow: what it says is its own, is compared, and takes over without a break."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from detector import comparison, scoring
from detector.commands import detector
from detector.scoring import Model
from detector.service import Service
from gateway.ledger import accounts, alerts, audit, detector_models, operators
from gateway.ledger.database import Database
from gateway.ledger.lake import Lake
from gateway.settings import Settings, load_settings
from tests.control_plane import fresh
from tests.detector import histories
from tests.detector.histories import Record

NAMES = ("chat", "harvester")
FIRST_DAYS = 2


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    """Return three days of a chat app, and of an account that collects answers on the last."""
    rng = random.Random(3)
    start = histories.START + timedelta(days=FIRST_DAYS, hours=8)
    found = histories.chat_app(rng, "chat", histories.history(rng, 50, FIRST_DAYS + 1))
    return histories.in_order([*found, *histories.bulk(rng, "harvester", histories.live(rng, 200, 600, start))])


@pytest.fixture(scope="module")
def wary() -> Model:
    """Return a model that would raise an alert about everybody."""
    return dataclasses.replace(scoring.shipped(), bounds=(1e-9, 2e-9, 0.8), shift=scoring.shipped().shift + 1.0)


@pytest.fixture
def config(tmp_path: Path, wary: Model) -> Path:
    """Return the settings of a house whose detector has the wary model in its shadow."""
    file = tmp_path / "spiritsafe.toml"
    model = '[[models]]\nname = "teacher"\nbackends = ["http://127.0.0.1:8001"]\n'
    file.write_text(f'{model}[detector]\nshadow_model = "wary.npz"\n')
    (tmp_path / "wary.npz").write_bytes(wary.to_bytes())
    return file


@pytest.fixture
def settings(config: Path) -> Settings:
    """Return them as they are read."""
    return load_settings(config, {})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """Return a control plane with both accounts and an operator."""
    opened = fresh(settings.database_url)
    with opened.write() as connection:
        for name in NAMES:
            accounts.create(connection, accounts.new(name), "test")
        operators.create(connection, "ada", "a long enough password", "test")
    yield opened
    opened.close()


def append(settings: Settings, rows: list[Record]) -> None:
    """Bring rows into the lake."""
    Lake.of(settings).append(histories.to_table(rows))


def alerted(database: Database) -> set[str]:
    """Return the accounts with alerts."""
    with database.read() as connection:
        return {alert.account for alert in alerts.every(connection)}


def adopt(database: Database, model: Model, replaced: Model) -> None:
    """Put a model in charge."""
    with database.write() as connection:
        kept = [detector_models.DetectorModel(each.id, each.to_bytes()) for each in (model, replaced)]
        detector_models.adopt(connection, kept[0], kept[1], "ada", "it was compared", {})


def opinion(service: Service, name: str) -> tuple[float, ...]:
    """Return what the model in charge thinks of an account."""
    verdict = service.watch.book.verdicts[service.watch.book.place(name)]
    return tuple(float(verdict[each]) for each in ("looks", "evidence", "score", "peak", "alert_requests"))


def run(config: Path, *arguments: str) -> Any:
    """Call `spiritsafe detector`."""
    return CliRunner().invoke(detector, [*arguments, "--config", str(config)])


def test_a_models_id_is_of_what_it_says(wary: Model) -> None:
    """The same arrays have the same id, whatever file they came from, and others another."""
    assert scoring.read(wary.to_bytes()).id == wary.id != scoring.shipped().id


def test_only_the_model_in_charge_raises_alerts(settings: Settings, database: Database, rows: list[Record]) -> None:
    """The shadow calls for an alert about both accounts, and one is raised; the metrics count both models."""
    append(settings, rows)
    service = Service(settings, database)
    service.round()
    assert alerted(database) == {"harvester"}
    sample = service.metrics.registry.get_sample_value
    flagged = {by: sample("spiritsafe_detector_compared_accounts", {"by": by}) for by in ("both", "charge", "shadow")}
    assert flagged == {"both": 1.0, "charge": 0.0, "shadow": 1.0}
    assert sample("spiritsafe_detector_compared_looks") == FIRST_DAYS  # of the chat app; the third is open
    shadow = {"role": "shadow", "model": service.watch.shadow.model.id if service.watch.shadow else ""}
    assert sample("spiritsafe_detector_model_info", shadow) == 1.0


def test_the_shadow_goes_on_after_a_restart(settings: Settings, database: Database, rows: list[Record]) -> None:
    """Its opinion and the comparison are what they are without one."""
    append(settings, rows[:120])
    first = Service(settings, database)
    first.round()
    first.keep()
    append(settings, rows[120:])
    second, whole = Service(settings, database), Service(settings, database)
    whole.start_over()
    assert second.round().rows < whole.round().rows
    assert second.watch.shadow is not None
    assert whole.watch.shadow is not None
    for name in ("looks", "evidence", "peak", "alert_time"):
        found, wanted = second.watch.shadow.opinions[name], whole.watch.shadow.opinions[name]
        np.testing.assert_allclose(found[:2], wanted[:2], rtol=1e-3)
    assert second.watch.shadow.compared["days"].sum() == whole.watch.shadow.compared["days"].sum() > 0


def test_who_is_adopted_takes_over_with_its_opinion(
    settings: Settings, database: Database, rows: list[Record], wary: Model
) -> None:
    """With the next rows it alerts about whom it had found; the one it replaced runs on, and comes back unharmed."""
    append(settings, rows[:-40])
    service, never = Service(settings, database), Service(settings, database)
    service.round()
    adopt(database, wary, scoring.shipped())
    append(settings, rows[-40:-20])
    service.round()
    assert (service.watch.model.id, alerted(database)) == (wary.id, set(NAMES))
    assert service.watch.shadow is not None
    assert service.watch.shadow.model.id == scoring.shipped().id
    assert Service(settings, database).watch.model.id == wary.id
    with database.read() as connection:
        previous = detector_models.previous(connection)
    assert previous.id == scoring.shipped().id
    adopt(database, scoring.shipped(), wary)
    append(settings, rows[-20:])
    service.round()
    never.round()
    assert service.watch.model.id == scoring.shipped().id
    assert [opinion(service, name) for name in NAMES] == [
        pytest.approx(opinion(never, name), rel=1e-3) for name in NAMES
    ]


def test_who_is_adopted_while_the_detector_rests_takes_over_too(
    settings: Settings, database: Database, rows: list[Record], wary: Model
) -> None:
    """The checkpoint has the opinion of both."""
    append(settings, rows)
    first = Service(settings, database)
    first.round()
    first.keep()
    assert first.watch.shadow is not None
    evidence = first.watch.shadow.opinions["evidence"][:2].tolist()
    mine = opinion(first, "chat")
    adopt(database, wary, scoring.shipped())
    second = Service(settings, database)
    assert second.watch.book.verdicts["evidence"].tolist() == evidence
    assert second.watch.shadow is not None
    place = second.watch.book.place("chat")
    assert second.watch.shadow.opinions["evidence"][place] == pytest.approx(mine[1])


def test_an_account_that_is_erased_leaves_the_shadow(
    settings: Settings, database: Database, rows: list[Record]
) -> None:
    """What both said about the others stays theirs."""
    append(settings, rows)
    service = Service(settings, database)
    service.round()
    assert service.watch.shadow is not None
    kept = service.watch.shadow.compared[service.watch.book.place("harvester")].tolist()
    Lake.of(settings).hide("chat")
    service.round()
    assert service.watch.shadow.compared.tolist() == [kept]


def test_a_file_that_is_no_model_costs_the_shadow_only(
    settings: Settings, database: Database, rows: list[Record], config: Path
) -> None:
    """The detector runs and alerts, and `compare` says what is wrong with the file."""
    (settings.base_dir / "wary.npz").write_bytes(b"nothing")
    append(settings, rows)
    service = Service(settings, database)
    service.round()
    assert service.watch.shadow is None
    assert alerted(database) == {"harvester"}
    refused = run(config, "compare")
    assert (refused.exit_code, "detector.shadow_model" in refused.output) == (1, True)


def test_both_are_compared_and_a_person_adopts(
    settings: Settings, database: Database, rows: list[Record], config: Path, wary: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The figures name disagreements and what people decided; adoption needs days enough or force, and is audited."""
    assert "has kept nothing yet" in run(config, "compare").output
    append(settings, rows)
    service = Service(settings, database)
    service.round()
    service.keep()
    with database.write() as connection:
        (alert,) = alerts.every(connection)
        alerts.decide(connection, alert.id, "dismiss", "ada", "its own benchmark")
    found = json.loads(run(config, "compare", "--json").stdout)
    assert (found["in_charge"], found["shadow"], found["accounts"]) == (scoring.shipped().id, wary.id, 2)
    assert (found["flagged_by_both"], found["flagged_by_in_charge_only"], found["flagged_by_shadow_only"]) == (1, 0, 1)
    assert found["dismissed_by_people"] == {"accounts": 1, "flagged_by_in_charge": 1, "flagged_by_shadow": 1}
    (disagreement,) = found["disagreements"]
    assert (disagreement["account"], disagreement["flagged_by"], disagreement["decided"]) == ("chat", "shadow", None)
    assert disagreement["reason"]
    assert found["rank_correlation"] == 1.0

    act = ("adopt", "--operator", "ada", "--note", "the house is small", "--json")
    few = run(config, *act)
    assert (few.exit_code, "3,000 are asked for" in few.output) == (1, True)
    assert json.loads(run(config, *act, "--force").stdout)["model"] == wary.id
    with database.read() as connection:
        row = audit.recent(connection)[0]
    assert (row.action, row.actor, row.subject, row.reason) == ("detector.adopt", "ada", wary.id, "the house is small")
    assert (row.detail["forced"], row.detail["compared"]["account_days"]) == (True, found["account_days"])
    assert json.loads(run(config, *act, "--previous").stdout)["model"] == scoring.shipped().id

    monkeypatch.setattr(comparison, "MINIMUM_ACCOUNT_DAYS", 1)
    assert run(config, *act).exit_code == 0
    stranger = run(config, "adopt", "--previous", "--operator", "nobody", "--note", "x")
    assert (stranger.exit_code, "operators create" in stranger.output) == (1, True)


def test_there_is_nothing_before_the_shipped_model(database: Database, config: Path) -> None:
    """Who was never replaced has nobody to go back to."""
    refused = run(config, "adopt", "--previous", "--operator", "ada", "--note", "back")
    assert (refused.exit_code, "nothing to go back to" in refused.output) == (1, True)
