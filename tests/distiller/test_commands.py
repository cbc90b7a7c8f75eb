"""`spiritsafe distill` from requests to a published student, with a scripted training child and scripted models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from distiller.commands import distill
from distiller.fixed_rules import Asked
from distiller.launch import Recipe, Workshop, train
from distiller.snapshot import freeze
from gateway.ledger import alerts, audit, consents, erasing, operators, registry
from gateway.ledger.distance import Distance
from gateway.ledger.erasing import Surroundings
from gateway.ledger.errors import Forbidden
from gateway.settings import load_settings
from tests.distiller import scripted_training
from tests.distiller.house import BEGIN, House, label, record, records, tickets
from tests.fakes import Received, Script, chat_answer, fake_vllm, usage

GERMAN = ("mein wiki ist seit Montag nicht erreichbar", "der Umzug auf den neuen Server ist gescheitert")
SIZES = ("--calibration-rows", "40", "--least-train-rows", "60")


class Desk:
    """Runs `spiritsafe distill` commands on a small house whose training child is scripted."""

    def __init__(self, folder: Path, teacher_url: str = "http://127.0.0.1:9", rows: int = 160) -> None:
        python = folder / "python"
        python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {scripted_training.__file__} "$@"\n')
        python.chmod(0o755)
        self.house = House(folder, [teacher_url])
        with self.house.file.open("a") as file:
            file.write(f'[models.serve]\npath = "{folder}"\n[distiller]\npython = "{python}"\n')
        self.settings = load_settings(self.house.file, {})
        self.students = self.settings.data_dir / "students"
        self.house.log(records(rows))
        with self.house.database.write() as connection:
            for name in ("ada", "bo"):
                operators.create(connection, name, "a long password", "test")

    def __call__(self, *arguments: str) -> Result:
        command, *rest = arguments
        return CliRunner().invoke(distill, [command, "--config", str(self.house.file), "--json", *rest])

    def json(self, *arguments: str) -> dict[str, Any]:
        result = self(*arguments)
        assert result.exit_code == 0, result.stderr
        document: dict[str, Any] = json.loads(result.stdout)
        return document

    def select(self, *options: str, gate_rows: int = 50) -> str:
        example = ("--task", "tickets", "--like", "r00000", "--requested-by", "ada", *options)
        return str(self.json("select", *example, "--gate-rows", str(gate_rows), *SIZES)["hash"])

    def ids(self, digest: str, split: str) -> set[str]:
        manifest = json.loads((self.settings.data_dir / "snapshots" / digest / "manifest.json").read_text())
        return {row_id for row_id, _ in manifest["splits"][split]["rows"]}

    def approved(self, gate_rows: int = 50) -> str:
        digest = self.select(gate_rows=gate_rows)
        self.json("approve", digest, "--operator", "bo", "--note", "looked at it")
        return digest

    def students_left(self) -> list[str]:
        return sorted(path.name for path in self.students.iterdir() if path.name != ".training.lock")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def answering(right_share: float) -> Callable[[Received], Script]:
    """Make models that answer tickets rightly: the teacher always, a student that share of the time."""

    def script(received: Received) -> Script:
        body = received.body
        text = body["messages"][-1]["content"]
        right = body["model"] == "teacher" or sum(text.encode()) % 100 < 100 * right_share
        answer = label(text).upper() if right else "nonsense"
        return [chat_answer(body["model"], answer, usage(20, body["max_tokens"]))]

    return script


@pytest.mark.slow
@pytest.mark.parametrize(("share", "state"), [(0.99, "candidate"), (0.3, "refused")])
def test_from_requests_to_a_card(tmp_path: Path, share: float, state: str) -> None:
    """A good student ends as a candidate with a card that names its rows and rights; a bad one has none."""
    with fake_vllm() as models:
        models.always(answering(share))
        desk = Desk(tmp_path, models.url, rows=540)
        digest = desk.approved(gate_rows=400)
        student = desk.json("train", digest, "--name", "tickets", "--layers", "4")
        assert (student["reference"], student["state"]) == ("tickets@1", "trained")
        with desk.house.database.write() as connection:
            registry.set_url(connection, "tickets@1", models.url)
        truth = tmp_path / "answers.jsonl"
        truth.write_text(
            "".join(
                json.dumps({"id": f"r{i:05d}", "answer": label(text)}) + "\n" for i, text in enumerate(tickets(540))
            )
        )
        evaluated = desk.json("evaluate", "tickets", "--answers", str(truth))
    assert evaluated["state"] == state
    assert 400 <= evaluated["gate"]["pairs"] < 410  # near duplicates stay together
    assert evaluated["gate"]["verdict"].startswith("passed" if state == "candidate" else "refused")
    published = desk("publish", "tickets@1")
    if state == "refused":
        assert "only a student that passed the gate" in published.stderr
        return
    card = Path(json.loads(published.stdout)["card"]).read_text()
    rows = sum(desk.json("show", digest)["rows"].values())
    for words in (digest, f"`shop`: {rows} rows", "Apache-2.0", "Approved by bo", "4 of the teacher's layers", "95 %"):
        assert words in card


def test_a_students_rows_are_found_from_its_name(desk: Desk) -> None:
    """`show --rows` lists every row of a student's snapshot with its hash, and `show` the students made from it."""
    digest = desk.approved()
    desk.json("train", digest, "--name", "tickets")
    lines = [json.loads(line) for line in desk("show", "tickets@1", "--rows").stdout.splitlines()]
    assert len(lines) == 158  # two are nearly rows of a later split
    assert set(lines[0]) == {"split", "id", "sha256"}
    shown = desk.json("show", digest[:12])
    assert (shown["students"], shown["approved_by"]) == (["tickets@1"], "bo")
    assert [json.loads(line)["hash"] for line in desk("list").stdout.splitlines()] == [digest]


def test_training_keeps_what_routing_and_the_gate_need(desk: Desk) -> None:
    """The registry row has the adequacy file with its threshold, the gate's rule, the losses and who approved."""
    desk.json("train", desk.approved(), "--name", "tickets", "--margin", "0.03")
    with desk.house.database.read() as connection:
        student = registry.get(connection, "tickets@1")
    training = student.training
    assert (training["gate_margin"], training["gate_alpha"], training["approved_by"]) == (0.03, 0.05, "bo")
    assert (training["loss_first"], training["loss_last"], student.parameters) == (3.0, 1.0, 70_000_000)
    distance = Distance.load(Path(str(student.adequacy)))
    assert distance.threshold == training["adequacy_threshold"]
    near = [distance.distance(text) <= distance.threshold for text in tickets(160)]
    assert sum(near) / len(near) > 0.9
    assert distance.distance("Write a sonnet about the moon in winter.") > distance.threshold


def test_the_gates_rule_is_fixed_by_the_first_student(desk: Desk) -> None:
    """A later student of the same rows takes over what was fixed, and another margin is refused before it trains."""
    digest = desk.approved()
    desk.json("train", digest, "--name", "tickets", "--margin", "0.03", "--attempts", "2")
    refused = desk("train", digest, "--name", "tickets", "--margin", "0.1")
    assert "--margin 0.1 is not the 0.03 that was fixed" in refused.stderr
    later = desk.json("train", digest, "--name", "tickets")["training"]
    assert (later["gate_margin"], later["gate_attempts"]) == (0.03, 2)


def test_protected_slices_are_frozen_with_the_rows(desk: Desk) -> None:
    """`--slice` marks the rows that are in it, and the gate's rule takes it over; other metadata is not kept."""
    desk.house.log([record(5000 + i, text, metadata={"language": "de", "who": "x"}) for i, text in enumerate(GERMAN)])
    example = ("--task", "tickets", "--like", "r00000", "--requested-by", "ada", "--slice", "language=de")
    digest = desk.json("select", *example, "--gate-rows", "50", *SIZES)["hash"]
    rows = pq.read_table(desk.settings.data_dir / "snapshots" / digest / "gate.parquet")["slices"].to_pylist()
    assert [row for row in rows if row] == [["language=de"]] * len(GERMAN)
    desk.json("approve", digest, "--operator", "bo")
    assert desk.json("train", digest, "--name", "tickets")["training"]["gate_slices"] == ["language=de"]


def test_the_untrained_baseline_is_a_student_like_any_other(desk: Desk) -> None:
    """`--untrained` registers a student that says so and has no losses; the next training is the next version."""
    digest = desk.approved()
    baseline = desk.json("train", digest, "--name", "tickets", "--untrained")
    assert (baseline["training"]["trained"], baseline["training"]["loss_first"]) == (False, None)
    assert desk.json("train", digest, "--name", "tickets")["reference"] == "tickets@2"


def test_the_requester_may_not_approve_and_nothing_trains_before(desk: Desk) -> None:
    """Approval by the requester is refused, so is an unknown operator's, and training without approval."""
    digest = desk.select()
    assert "somebody else must approve" in desk("approve", digest, "--operator", "ada").stderr
    assert "no operator is called 'eve'" in desk("approve", digest, "--operator", "eve").stderr
    refused = desk("train", digest, "--name", "tickets")
    assert (refused.exit_code, "is not approved" in refused.stderr) == (1, True)


def test_other_bytes_than_the_approved_ones_do_not_train(desk: Desk) -> None:
    """A file changed after the approval ends the training before it begins, and the file is named."""
    digest = desk.approved()
    file = desk.settings.data_dir / "snapshots" / digest / "train.parquet"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes() + b" ")
    assert "train.parquet is not what was approved" in desk("train", digest, "--name", "tickets").stderr


def test_a_withdrawal_after_the_approval_ends_it(desk: Desk) -> None:
    """Withdrawn consent bars the snapshot at once, with the remedy; so does an alert until it is dismissed."""
    digest = desk.approved()
    with desk.house.database.write() as connection:
        alert, _ = alerts.raise_or_update(connection, "shop", "high", 0.9, [], {})
    assert "has an open or confirmed alert" in desk("train", digest, "--name", "tickets").stderr
    with desk.house.database.write() as connection:
        alerts.decide(connection, alert.id, "dismiss", "bo", "a nightly job")
        consents.withdraw(connection, "shop", "test")
        consents.grant(connection, "shop", "test")
    refused = desk("train", digest, "--name", "tickets").stderr
    assert "shop withdrew consent" in refused
    assert "distill select" in refused


def test_a_withdrawal_during_the_training_still_counts(desk: Desk) -> None:
    """Consent withdrawn while the weights are made means that they are not kept."""
    digest = desk.approved()

    def withdraw(step: int, steps: int, seconds_left: float, note: str) -> None:
        if step == steps:
            with desk.house.database.write() as connection:
                consents.withdraw(connection, "shop", "test")

    with pytest.raises(Forbidden, match="withdrew consent"):
        train(Workshop(desk.settings, desk.house.database, "test", withdraw), digest, "tickets", Recipe(), Asked())
    assert desk.students_left() == []
    with desk.house.database.read() as connection:
        assert registry.every(connection) == []


def test_a_licence_taken_back_after_the_approval_ends_it(desk: Desk) -> None:
    """When the settings no longer let the teacher's answers train, an approved snapshot does not train either."""
    digest = desk.approved()
    desk.house.file.write_text(desk.house.file.read_text().replace("distillable = true", "distillable = false"))
    assert "may not train a student any more" in desk("train", digest, "--name", "tickets").stderr


def test_a_failed_training_leaves_its_remedy_and_nothing_else(desk: Desk) -> None:
    """The child's paragraph reaches the user, exit status 1, no folder and no row."""
    failed = desk("train", desk.approved(), "--name", "tickets", "--seed", str(scripted_training.FAILS))
    assert failed.exit_code == 1
    assert "Halve `batch_size`" in failed.stderr
    with desk.house.database.read() as connection:
        assert registry.every(connection) == []
    assert "tickets@1" not in desk.students_left()


@pytest.mark.slow
def test_a_killed_training_leaves_no_half_student(desk: Desk) -> None:
    """kill -9 takes the child along; no student is there, and the next training sweeps up and succeeds."""
    digest = desk.approved()
    command = [sys.executable, "-c", "from distiller.commands import distill; distill()", "train", digest]
    options = ["--name", "tickets", "--config", str(desk.house.file), "--seed", str(scripted_training.HANGS)]
    parent = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert parent.stderr is not None
    lines = [parent.stderr.readline() for _ in range(2)]
    assert "3/3" in lines[-1]
    [child] = map(int, Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split())
    assert "another training is under way" in desk("train", digest, "--name", "tickets").stderr
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stderr.close()
    deadline = time.monotonic() + 5
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(child)
    assert any(name.endswith(".building") for name in desk.students_left())
    with desk.house.database.read() as connection:
        assert registry.every(connection) == []
    assert desk.json("train", digest, "--name", "tickets")["reference"] == "tickets@1"
    assert desk.students_left() == ["tickets@1"]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_selecting_too_few_rows_says_why_they_are_so_few(desk: Desk) -> None:
    """The error has the numbers, the options, and what was left out for which reason."""
    desk.house.log([record(9000, "one more, without consent", account="other")])
    refused = desk("select", "--task", "tickets", "--like", "r00000", "--gate-rows", "4000")
    assert refused.exit_code == 1
    assert "160 usable rows are too few: 4000 for the gate" in refused.stderr
    assert "1 because the account has no consent" in refused.stderr


def test_a_students_name_is_a_name(desk: Desk) -> None:
    """Names that would be paths, versions or models of the settings are refused."""
    digest = desk.approved()
    for name in ("a@1", "teacher", "auto", "../x", ".hidden", ""):
        assert "name" in desk("train", digest, "--name", name).stderr
    assert not desk.students.exists()


def test_what_people_did_is_in_the_audit_log(desk: Desk) -> None:
    """Proposal, approval and training each left a row with who did it."""
    desk.json("train", desk.approved(), "--name", "tickets")
    with desk.house.database.read() as connection:
        done = {row.action: row.actor for row in audit.recent(connection)}
    assert (done["snapshot.propose"], done["snapshot.approve"]) == ("ada", "bo")
    assert done["student.register"].startswith("cli:")


def test_withdrawn_rows_are_out_of_the_snapshot_and_nothing_trains_on_it(desk: Desk) -> None:
    """Approval and training are refused with the reason; `show` tells by ids and hashes what it was, and its mark."""
    digest = desk.select()
    around = Surroundings(desk.settings, desk.house.database, lambda: None, 0.0, 0.0)
    receipt = erasing.withdraw(around, "shop", "test").receipt
    assert receipt is not None
    assert receipt["snapshots"] == [{"reference": digest, "rows": receipt["rows"]}]
    for command in (("approve", digest, "--operator", "bo"), ("train", digest, "--name", "tickets")):
        result = desk(*command)
        assert result.exit_code == 1
        assert "approve" in result.stderr
    refused = desk("approve", digest, "--operator", "bo")
    assert f"lost {receipt['rows']} rows to a withdrawal" in refused.stderr
    shown = desk.json("show", digest)
    assert [(mark["kind"], mark["rows"]) for mark in shown["marks"]] == [("withdrawal", receipt["rows"])]
    assert shown["report"]["accounts"] == {"shop": receipt["rows"]}


def test_evaluation_rows_are_frozen_for_the_task(desk: Desk) -> None:
    """The next snapshot has the same gate rows, none newer trains, and only `--new-evaluation` takes newer ones."""
    first = desk.select()
    assert desk.select() == first
    desk.house.log([record(700 + i, text) for i, text in enumerate(tickets(60, seed=9))])
    second, renewed = desk.select(), desk.select("--new-evaluation")
    gates = [desk.ids(digest, "gate") for digest in (first, second, renewed)]
    assert gates[0] == gates[1] != gates[2]
    assert desk.ids(second, "train") <= desk.ids(first, "train")
    assert not desk.ids(renewed, "train") & gates[2]
    refused = desk("select", "--task", "tickets", "--like", "r00000", "--gate-rows", "51", *SIZES)
    assert "or freeze newer ones with --new-evaluation" in refused.stderr


def test_a_withdrawal_ends_the_evaluation_rows(desk: Desk) -> None:
    """Rows that may not be used are not taken over: new ones are frozen, and why is said."""
    desk.select()
    erasing.withdraw(Surroundings(desk.settings, desk.house.database, lambda: None, 0.0, 0.0), "shop", "test")
    with desk.house.database.write() as connection:
        consents.grant(connection, "shop", "test", time=BEGIN - timedelta(days=1))
    example = ("--task", "tickets", "--like", "r00000", "--requested-by", "ada", "--gate-rows", "50", *SIZES)
    assert "frozen anew: those before can't be taken over: snapshot" in desk("select", *example).stderr


def test_lineage_goes_both_ways(desk: Desk) -> None:
    """From a request and an account to the snapshots and students that hold it, from a student to its rows."""
    digest = desk.approved()
    desk.json("train", digest, "--name", "tickets")
    [trace] = [json.loads(line) for line in desk("lineage", "r00003").stdout.splitlines()]
    assert (trace["snapshot"], trace["split"], trace["students"]) == (digest, "train", ["tickets@1"])
    [account] = [json.loads(line) for line in desk("lineage", "shop").stdout.splitlines()]
    assert (account["rows"], account["students"]) == (158, ["tickets@1"])
    rows = [json.loads(line) for line in desk("lineage", "tickets@1").stdout.splitlines()]
    assert {row["id"]: row["sha256"] for row in rows}["r00003"] == trace["sha256"]
    assert "no snapshot holds or held 'nobody'" in desk("lineage", "nobody").stderr


def test_policy_may_want_two_people(desk: Desk) -> None:
    """With `approvals = 2` one yes is not enough, the same person twice is one, and the student has both names."""
    desk.house.file.write_text(desk.house.file.read_text() + "approvals = 2\n")
    with desk.house.database.write() as connection:
        operators.create(connection, "cy", "a long password", "test")
    digest = desk.select()
    for _ in range(2):
        desk.json("approve", digest, "--operator", "bo")
        assert "has 1 of 2 approvals" in desk("train", digest, "--name", "tickets").stderr
    assert desk.json("show", digest)["approved_by"] is None
    desk.json("approve", digest, "--operator", "cy")
    assert desk.json("train", digest, "--name", "tickets")["training"]["approved_by"] == "bo and cy"


def test_a_withdrawal_while_rows_are_selected_still_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights are read again when the snapshot is proposed, and what was frozen without them goes."""

    def withdrawn_meanwhile(*arguments: Any) -> Any:
        frozen = freeze(*arguments)
        with desk.house.database.write() as connection:
            consents.withdraw(connection, "shop", "test")
        return frozen

    monkeypatch.setattr("distiller.proposing.freeze", withdrawn_meanwhile)
    result = desk("select", "--task", "tickets", "--like", "r00000", *SIZES, "--gate-rows", "50")
    assert result.exit_code == 1
    assert "withdrew consent" in result.stderr
    assert list((desk.settings.data_dir / "snapshots").iterdir()) == []
