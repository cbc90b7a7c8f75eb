"""`spiritsafe distill assess`: a probe for whoever decides, isolated, audited, and gone afterwards."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from distiller.assessment import BEGUN, DONE, Bench, Probe, assess, train_probes
from distiller.child import TrainingFailed
from distiller.collected import others_rows, suspects_rows
from distiller.commands import distill
from distiller.probe_sets import divide
from gateway.ledger import accounts, alerts, audit, enforcement, opt_outs, policies, registry, snapshots
from gateway.ledger.alerts import Alert
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.fingerprint import complete
from gateway.ledger.traffic import to_table
from gateway.settings import load_settings
from tests.conftest import ROOT
from tests.distiller import scripted_probing
from tests.distiller.house import BEGIN, House, record

SUSPECTS, OTHERS = ("gleaner", "gleaner-2"), ("north", "south", "east", "west")
MARK = "zanzibarian"  # in every text of the suspects, and in no file but the lake
WORDS = [
    f"{first}{second}" for first in ("ka", "lo", "mi", "nu", "pe", "ra") for second in ("ba", "do", "fi", "gu", "he")
]
ALONE = {"domain": 0.5, "general": -0.25}


def rows(account: str, count: int, **changes: Any) -> list[dict[str, Any]]:
    """Return records of an account that consented to nothing, each with a text of its own."""
    draw = random.Random(account)
    start = MARK if account in SUSPECTS else account
    made = []
    for number in range(count):
        text = " ".join([start, *draw.choices(WORDS, k=11)])
        answer = {"content": f"{start} {draw.choice(WORDS)}", "choices": 1}
        fields = {"id": f"{account}-{number}", "account": account, "store": None, "response": answer} | changes
        made.append(record(number, text, **fields))
    return made


@cache
def everybody(suspects: int) -> pa.Table:
    """Everybody's rows as the lake takes them; fingerprints are most of what a house costs."""
    asked = [*((name, suspects) for name in SUSPECTS), *((name, 180) for name in OTHERS)]
    return to_table([complete(one) for name, count in asked for one in rows(name, count)])


class Desk:
    """A house with a linked set under an alert, four ordinary accounts, and a scripted child."""

    def __init__(self, folder: Path, suspects: int = 300) -> None:
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {scripted_probing.__file__} "$@"\n')
        python.chmod(0o755)
        self.house = House(folder)
        with self.house.file.open("a") as file:
            file.write(f'[models.serve]\npath = "{folder}"\n[distiller]\npython = "{python}"\n')
        self.settings, self.database = load_settings(self.house.file, {}), self.house.database
        with self.database.write() as connection:
            for name in (*SUSPECTS, *OTHERS):
                accounts.create(connection, accounts.Account(name, BEGIN), "test")
        self.house.lake.append(everybody(suspects))
        self.alert = self.raise_alert("gleaner", ["gleaner-2"])

    def raise_alert(self, account: str, members: list[str]) -> Alert:
        with self.database.write() as connection:
            return alerts.raise_or_update(connection, account, "high", 0.9, [], {"members": members})[0]

    def __call__(self, *arguments: str) -> Result:
        return CliRunner().invoke(distill, ["assess", "--config", str(self.house.file), *arguments])

    def assess(self, part: int = scripted_probing.GOOD) -> Any:
        return assess(self.bench(), self.alert.id, Probe(layers=part), "Was it a harvest?")

    def bench(self) -> Bench:
        return Bench(self.settings, self.database, "mara", lambda *_: None)

    def audited(self) -> list[audit.AuditRow]:
        with self.database.read() as connection:
            return [row for row in audit.recent(connection, subject="gleaner") if row.action in (BEGUN, DONE)]

    def files_with_text(self) -> list[str]:
        folder = self.settings.data_dir
        files = (path for path in folder.rglob("*") if path.is_file() and "lake" not in path.parts)
        return [str(path) for path in files if MARK.encode() in path.read_bytes()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_report_says_how_far_the_suspects_probes_are_ahead(desk: Desk) -> None:
    """In JSON and in words: gains with intervals on both kinds of prompts, what was learnt from, and its limits."""
    with desk.database.write() as connection:
        registry_before = registry.every(connection)
    result = desk(desk.alert.id, "--json", "--note", "Was it a harvest?")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    for kind, gain in ALONE.items():
        assert found[kind]["gain"] == pytest.approx(gain)
        assert found[kind]["low"] <= found[kind]["gain"] + 1e-9
        assert found[kind]["gain"] - 1e-9 <= found[kind]["high"]
        assert len(found[kind]["by_seed"]) == 3
        assert found[kind]["rows"] >= 50
    assert (found["accounts"], found["teacher"], found["usable"]) == (list(SUSPECTS), "teacher", 600)
    assert (found["probe"]["rows"], found["tokens"]["suspect"], found["apart"]) == (500, 1000, False)
    text = desk(desk.alert.id).stdout
    for words in ("+0.500 nats a token", "-0.250 nats a token", "ahead", "behind", "gleaner, gleaner-2", "by itself"):
        assert words in text
    with desk.database.read() as connection:
        assert registry.every(connection) == registry_before


def test_consent_is_not_asked_of_the_suspect_and_others_are_spared(desk: Desk) -> None:
    """The whole set's rows are taken; of others none of an account that an alert names, or of a user who opted out."""
    desk.house.log(rows("north", 1, id="left", user="leaver"))
    with desk.database.write() as connection:
        opt_outs.put(connection, "north", "leaver", "test")
        opted_out = opt_outs.every(connection)
    teacher = desk.settings.teacher
    taken = suspects_rows(desk.house.lake, SUSPECTS, teacher)
    assert {one.row.account for one in taken.rows} == set(SUSPECTS)
    assert taken.left_out == {}
    others = others_rows(desk.house.lake, {*SUSPECTS, "west"}, teacher, opted_out, 9_000)
    assert {one.row.account for one in others.rows} == {"north", "south", "east"}
    assert "left" not in {one.row.id for one in others.rows}
    assert others_rows(desk.house.lake, {*SUSPECTS}, teacher, opted_out, 200).rows[0].document()["ended"]
    few = others_rows(desk.house.lake, {*SUSPECTS}, teacher, opted_out, 200).rows
    assert 195 <= len(few) <= 204  # some repeat an earlier prompt


def test_answers_of_others_than_the_teacher_are_nothing_that_it_taught(desk: Desk) -> None:
    """Failures, students' answers and tool calls are left out, each counted by its reason; cut answers stay."""
    wrong = [
        rows("gleaner", 1, id="w1", status=500), rows("gleaner", 1, id="w2", model="s@1", model_role="student"),
        rows("gleaner", 1, id="w3", tools=["f"]), rows("gleaner", 1, id="w4", messages=None),
        rows("gleaner", 1, id="w5", response={"content": " "}),
    ]  # fmt: skip
    desk.house.log([one for found in wrong for one in found])
    desk.house.log([record(9_000, f"{MARK} cut short", id="cut", account="gleaner", finish_reason="length")])
    taken = suspects_rows(desk.house.lake, SUSPECTS, desk.settings.teacher)
    assert taken.left_out == dict.fromkeys(("failed", "not_the_teacher", "other_shape", "no_text", "empty"), 1)
    assert [one.row.id for one in taken.rows if not one.ended] == ["cut"]


@pytest.mark.parametrize("kept", [True, False])
def test_too_few_rows_are_refused_with_what_is_missing(tmp_path: Path, kept: bool) -> None:
    """The refusal counts the missing rows; where text was not kept it says so, and what would be needed."""
    desk = Desk(tmp_path, suspects=200)
    if not kept:
        desk.house.log(rows("gleaner", 250, messages=None, response=None))
    with pytest.raises(InvalidValue, match="400 answers of 'teacher' can be learnt from, 150 too few") as caught:
        desk.assess()
    assert ("250 the text was not kept" in str(caught.value)) is not kept
    assert ("retention NAME --no-zero" in str(caught.value)) is not kept
    assert [row.action for row in desk.audited()] == [BEGUN]


def test_too_little_ordinary_traffic_is_refused(desk: Desk) -> None:
    """There is nothing to compare with where nearly everybody is under an alert."""
    for name in ("north", "south"):
        desk.raise_alert(name, [])
    with pytest.raises(InvalidValue, match="rows of accounts without an alert that are not near"):
        desk.assess()


@pytest.mark.parametrize("probe", [Probe(rows=499), Probe(seeds=2)])
def test_fewer_rows_or_seeds_than_say_something_are_refused(desk: Desk, probe: Probe) -> None:
    """Nobody gets a figure from less by calling it otherwise."""
    with pytest.raises(InvalidValue, match="500 rows"):
        assess(desk.bench(), desk.alert.id, probe, "")
    assert "500" in desk(desk.alert.id, "--rows", "100").stderr


def test_who_looked_and_what_was_found_is_audited_without_text(desk: Desk) -> None:
    """A row before any text is read, a row with the figures after; the log still verifies."""
    made = desk.assess()
    done, begun = desk.audited()
    assert (begun.action, done.action) == (BEGUN, DONE)
    assert {(row.actor, row.reason, row.detail["alert"]) for row in (begun, done)} == {
        ("mara", "Was it a harvest?", desk.alert.id)
    }
    assert begun.detail["accounts"] == list(SUSPECTS)
    assert done.detail["domain"]["gain"] == made.domain.gain
    assert MARK not in json.dumps([begun.detail, done.detail])
    with desk.database.read() as connection:
        assert audit.verify(connection).faults == []


def test_nothing_follows_from_it_by_itself(desk: Desk) -> None:
    """With a policy switched on that would strip: no measure, the alert as it was, no student and no snapshot."""
    with desk.database.write() as connection:
        policies.create(connection, "strip", "strip", "test", "It strips.")
        policies.switch(connection, "strip", True, "test", "On.")
        before = alerts.get(connection, desk.alert.id), enforcement.in_force(connection)
    desk.assess()
    with desk.database.read() as connection:
        assert (alerts.get(connection, desk.alert.id), enforcement.in_force(connection)) == before
        assert registry.every(connection) == []
        assert snapshots.every(connection) == []
        for reference in (desk.alert.id, "gleaner@1"):
            with pytest.raises(NotFound):
                registry.get(connection, reference)
    published = CliRunner().invoke(distill, ["publish", desk.alert.id, "--config", str(desk.house.file)])
    assert published.exit_code == 1
    assert [path.name for path in (desk.settings.data_dir / "students").iterdir()] == [".training.lock"]


@pytest.mark.parametrize("part", [scripted_probing.GOOD, scripted_probing.FAILS, scripted_probing.WRITES])
def test_no_text_and_no_weights_reach_a_disk(desk: Desk, part: int) -> None:
    """Not when it ends, not when memory runs out, and not when the child tries to: the kernel refuses it a file."""
    if part == scripted_probing.GOOD:
        desk.assess(part)
    else:
        with pytest.raises(TrainingFailed, match="Memory ran out" if part == scripted_probing.FAILS else "OSError"):
            desk.assess(part)
        assert [row.action for row in desk.audited()] == [BEGUN]
    kept = Path(scripted_probing.__file__).with_name("kept.txt")
    assert not kept.exists() or kept.stat().st_size == 0
    kept.unlink(missing_ok=True)
    assert desk.files_with_text() == []
    assert not (desk.settings.data_dir / "probes").exists()


KILLED = """
import sys
from pathlib import Path
from distiller.assessment import Bench, Probe, assess
from gateway.ledger.database import open_database
from gateway.settings import load_settings
settings = load_settings(Path(sys.argv[1]), {})
bench = Bench(settings, open_database(settings.database_url), "mara", lambda *_: print("step", flush=True))
assess(bench, sys.argv[2], Probe(layers=int(sys.argv[3])), "")
"""


def test_a_kill_leaves_nothing_behind(desk: Desk) -> None:
    """`kill -9` in the middle: the child dies too, no file has a word of it, and the next start tidies its folder."""
    command = [sys.executable, "-c", KILLED, str(desk.house.file), desk.alert.id, str(scripted_probing.HANGS)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    with pytest.raises(Forbidden, match="another training is under way"):
        desk.assess()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert desk.files_with_text() == []
    [left] = (desk.settings.data_dir / "probes").iterdir()
    assert [path.is_symlink() for path in left.iterdir()] == [True]
    assert [row.action for row in desk.audited()] == [BEGUN]
    desk.assess()
    assert not (desk.settings.data_dir / "probes").exists()
    assert _gone(lambda: str(desk.house.file.parent) in _commands())


def _commands() -> str:
    """The command lines of all scripted children."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


def _gone(there: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while there() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not there()


@pytest.fixture
def real(desk: Desk, require_environment: Callable[[str], Path], require_model: Callable[[str], Path]) -> Bench:
    """The desk with the distiller's own environment, and the demo's teacher."""
    desk.house.file.write_text(
        desk.house.file.read_text().partition("[models.serve]")[0]
        + f'[models.serve]\npath = "{require_model("teacher")}"\n'
        + f'[distiller]\npython = "{require_environment("distiller")}"\nthreads = 1\n'
    )
    return Bench(load_settings(desk.house.file, {}), desk.database, "mara", lambda *_: None)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_probes_learn_what_they_were_given(desk: Desk, real: Bench) -> None:
    """With real weights, in the real environment, refused every file: each side's probe is ahead at home."""
    teacher = real.settings.teacher
    suspect = suspects_rows(real_lake := desk.house.lake, SUSPECTS, teacher)
    others = others_rows(real_lake, set(SUSPECTS), teacher, frozenset(), 200)
    sets = divide(suspect.rows[:160], others.rows, 16)
    probe = Probe(rows=16, seeds=1, layers=1, epochs=2)
    folder = Path(real.settings.base_dir, real.settings.model("teacher").serve.path)  # type: ignore[union-attr]
    found = train_probes(real, folder, probe, sets, {1: sets.drawn(1, 16)})
    ours, theirs = (sum(side["losses"]["domain"]) for side in found["probes"])
    assert ours < theirs < sum(found["untrained"]["domain"])
    ours, theirs = (sum(side["losses"]["general"]) for side in found["probes"])
    assert theirs < ours < sum(found["untrained"]["general"])
    assert not (real.settings.data_dir / "probes").exists()
    assert desk.files_with_text() == []
