"""Asking student and teacher over HTTP, comparing, measuring, deciding; the models are scripted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distiller.evaluation import EvaluationFailed, Speed, field_f1, normalised, read_answers, student_prices
from distiller.fixed_rules import as_training
from distiller.gate import Rule
from distiller.selection import rights_now, select, task_like
from distiller.snapshot import Frozen, freeze
from distiller.splitting import Sizes, split
from distiller.trial import AGREEMENT, Demand, Surroundings, TooFewPairs, evaluate
from gateway.ledger import registry, snapshots
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now
from gateway.ledger.registry import Student
from tests.distiller.house import FORM, House, label, records
from tests.fakes import FakeVllm, Received, Script, Wait, chat_answer, error_response, fake_vllm, usage

PAIRS, MINIMUM = 205, 200  # gate rows, and how many the gate asks for here: every one of them is asked over HTTP


SLICE = "language=de"


class Case:
    """A snapshot of gate rows, a trained student of it, and the scripted models that serve it and its teacher."""

    def __init__(self, folder: Path, models: FakeVllm) -> None:
        self.models = models
        self.house = House(folder, [models.url])
        self.house.log(records(PAIRS + 65))
        self.frozen = self._freeze()
        self.answers = {row.id: label(row.text) for row in self.frozen.rows("gate")}
        self.reference = ""

    def renew(self, training: dict[str, Any] | None = None) -> None:
        """Register the next version, served by models that are both nearly always right."""
        self.models.always(script(0.97, 0.98))
        self.models.received.clear()
        with self.house.database.write() as connection:
            student = self._student(registry.next_version(connection, "tickets"))
            student = replace(student, training=training or student.training)
            self.reference = registry.add(connection, student, "test").reference
            registry.set_url(connection, self.reference, self.models.url)

    def evaluate(self, answers: dict[str, str] | None = None, wait_s: float = 5, **demand: Any) -> Student:
        said: list[str] = []
        around = Surroundings(
            self.house.settings, self.house.database, "test", said.append, lambda *_: None, wait_s=wait_s
        )
        return evaluate(around, self.reference, answers, Demand(**demand))

    def state(self) -> str:
        with self.house.database.read() as connection:
            return registry.get(connection, self.reference).state

    def _freeze(self) -> Frozen:
        house = self.house
        task = task_like(house.lake, house.settings, "tickets", "r00000")
        with house.database.read() as connection:
            rights = rights_now(connection, task.teacher)
        selection = select(house.lake, task, rights)
        splits = split(selection.rows, Sizes(PAIRS, 30, 30))
        frozen = freeze(house.settings.data_dir / "snapshots", task, selection, splits, rights, {})
        values = (frozen.hash, task.name, task.endpoint, task.skeleton, str(frozen.path), "ada", frozen.report)
        with house.database.write() as connection:
            snapshots.propose(connection, snapshots.new(*values))
        return frozen

    def _student(self, version: int) -> Student:
        # Each has evaluation rows of its own, so that none spends another's attempt.
        training = as_training(Rule(minimum_pairs=MINIMUM, slices=(SLICE,)), f"rows of {version}")
        manifest = self.frozen.manifest
        return Student(
            "tickets", version, "tickets", manifest["endpoint"], manifest["skeleton"], self.frozen.hash, "teacher",
            "/nowhere", "trained", now(), 70_000_000, 2048, "Apache-2.0", training,
        )  # fmt: skip


def script(
    student_right: float,
    teacher_right: float = 1.0,
    pause: Callable[[str], float] = lambda _: 0.0,
    apart: bool = False,
) -> Any:
    """Make both models right that share of the time, on other requests if `apart`; `pause`: seconds by model's name."""

    def play(received: Received) -> Script:
        body = received.body
        text = body["messages"][-1]["content"]
        share = teacher_right if body["model"] == "teacher" else student_right
        luck = sum(text.encode()) % 100
        if apart and body["model"] == "teacher":
            luck = 99 - luck
        answer = f" {label(text).title()}.\n" if luck < 100 * share else "other words"
        reply = chat_answer(body["model"], answer, usage(20, body["max_tokens"]))
        seconds = pause(body["model"])
        return [Wait(seconds), reply] if seconds else [reply]

    return play


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with fake_vllm() as models:
        yield Case(tmp_path_factory.mktemp("house"), models)


@pytest.fixture
def case(snapshot: Case) -> Case:
    snapshot.renew()
    return snapshot


def test_a_good_student_becomes_a_candidate(case: Case) -> None:
    """The verdict, both shares, the speed and the price with its basis are in the registry row."""
    student = case.evaluate(case.answers)
    gate = student.gate
    assert gate is not None
    assert (student.state, gate["passed"], gate["pairs"]) == ("candidate", True, PAIRS)
    assert gate["teacher"]["share"] > gate["student"]["share"] > gate["lower_bound"] > 0.9
    assert gate["difference_lower_bound"] > -0.05
    assert {"student_tokens_per_second_1", "teacher_tokens_per_second_8", "speed_up_8"} <= set(gate)
    assert student.price_basis is not None
    assert "measured ratio of time per token" in student.price_basis
    with case.house.database.read() as connection:
        assert registry.get(connection, case.reference) == student


def test_a_bad_student_is_refused_with_what_got_worse(case: Case) -> None:
    """A student that is wrong where the teacher is right is refused, and the report names such requests."""
    case.models.always(script(0.5))
    student = case.evaluate(case.answers)
    assert student.state == "refused"
    assert student.gate is not None
    assert len(student.gate["got_worse"]) == 20
    assert set(student.gate["got_worse"]) <= set(case.answers)


def test_both_are_asked_what_was_logged_at_temperature_zero(case: Case) -> None:
    """Each gets every gate request once, with the logged output format and limit, its own name, and no stream."""
    case.evaluate(case.answers)
    asked = [received.body for received in case.models.received if "ignore_eos" not in received.body]
    assert sorted(body["model"] for body in asked) == ["teacher"] * PAIRS + [case.reference] * PAIRS
    for body in asked:
        assert (body["temperature"], body["stream"], body["max_tokens"]) == (0, False, 8)
        assert body["structured_outputs"] == FORM
    gate = {row.text for row in case.frozen.rows("gate")}
    assert {body["messages"][-1]["content"] for body in asked} == gate


def test_speed_is_measured_on_the_same_prompts_and_priced(case: Case) -> None:
    """A student twice as fast is reported so, and costs about half: both models get the same prompts, in turn."""
    pauses = {"teacher": 0.06, case.reference: 0.03}
    bodies: list[dict[str, Any]] = []

    def play(received: Received) -> Script:
        timed = "ignore_eos" in received.body
        if timed:
            bodies.append(received.body)
        plain: Script = script(1.0, 1.0, pauses.__getitem__ if timed else lambda _: 0.0)(received)
        return plain

    case.models.always(play)
    student = case.evaluate(case.answers)
    assert student.gate is not None
    assert 1.3 < student.gate["speed_up_8"] < 2.6
    assert student.input_price is not None
    assert student.input_price == pytest.approx(1000 / student.gate["speed_up_8"], rel=0.02)
    prompts = {name: [b["messages"] for b in bodies if b["model"] == name] for name in pauses}
    key = str
    assert sorted(prompts["teacher"], key=key) == sorted(prompts[case.reference], key=key)
    assert all("structured_outputs" not in body for body in bodies)


def test_a_passing_trouble_is_asked_again(case: Case) -> None:
    """A 503 is tried again and changes nothing."""
    case.models.play(error_response(503, "starting"))
    assert case.evaluate(case.answers).state == "candidate"


def test_a_lasting_trouble_decides_nothing(case: Case) -> None:
    """A request that can't be answered ends the evaluation with where to look; the student is still `trained`."""
    case.models.play(error_response(400, "no such parameter"))
    with pytest.raises(EvaluationFailed, match=r"no such parameter.*nothing was decided"):
        case.evaluate(case.answers)
    assert case.state() == "trained"


def test_another_margin_than_before_training_is_refused(case: Case) -> None:
    """The rule was fixed before training: repeating it is fine, changing it is not."""
    for demand in ({"margin": 0.1}, {"alpha": 0.2}):
        with pytest.raises(Forbidden, match=f"fixed before {case.reference} was trained"):
            case.evaluate(case.answers, **demand)
    assert case.evaluate(case.answers, margin=0.05, alpha=0.05).state == "candidate"


def test_too_few_known_answers_are_no_pass(case: Case) -> None:
    """One known answer short of the minimum nobody is asked, and the words say how many are missing."""
    with pytest.raises(TooFewPairs, match=rf"{MINIMUM - 1} pairs are too few, 1 more.*Nobody was asked"):
        case.evaluate(dict(list(case.answers.items())[: MINIMUM - 1]))
    assert case.models.received == []
    assert case.state() == "trained"


def test_no_verdict_leaves_the_student_trained_and_spends_the_test(case: Case) -> None:
    """Both disagree too much for so few pairs: neither a pass nor a refusal, and the same pairs are not asked again."""
    case.models.always(script(0.85, 0.85, apart=True))
    student = case.evaluate(case.answers)
    assert student.gate is not None
    assert (student.state, student.gate["outcome"], student.gate["looks"]) == ("trained", "no verdict", 1)
    assert student.gate["missing"] > 0
    with pytest.raises(TooFewPairs, match="1 more are missing"):
        case.evaluate(case.answers)


def test_a_spent_evaluation_set_tests_nobody(case: Case) -> None:
    """After the attempt that was fixed beforehand the next student is refused its test, with the remedy."""
    fixed = as_training(Rule(minimum_pairs=MINIMUM), "the same rows")
    case.renew(fixed)
    case.evaluate(case.answers)
    case.renew(fixed)
    with pytest.raises(Forbidden, match=r"one sealed test.*--new-evaluation"):
        case.evaluate(case.answers)
    assert case.models.received == []
    case.renew(fixed | {"trained": False})  # a baseline spends nothing
    baseline = case.evaluate(case.answers)
    assert baseline.state == "refused"
    assert baseline.gate is not None
    assert baseline.gate["verdict"].startswith("refused: a baseline")


def test_a_slice_with_few_pairs_stays_with_the_teacher(case: Case) -> None:
    """The report says of every protected slice whether the student may have it."""
    gate = case.evaluate(case.answers).gate
    assert gate is not None
    assert [(entry["slice"], entry["stays_with_teacher"]) for entry in gate["slices"]] == [(SLICE, True)]


def test_answers_of_other_requests_are_no_answers(case: Case) -> None:
    """A file that has none of the gate's ids is an error, not an empty comparison."""
    with pytest.raises(InvalidValue, match=f"none of the {PAIRS} gate rows"):
        case.evaluate({"another": "money"})


def test_without_answers_it_says_that_it_measured_agreement(case: Case) -> None:
    """Without known answers the teacher's logged ones serve, and the report calls it agreement."""
    student = case.evaluate(None)
    assert student.gate is not None
    assert (student.gate["measure"], student.gate["pairs"]) == (AGREEMENT, PAIRS)


def test_the_gate_decides_once(case: Case) -> None:
    """A second evaluation of a decided student is refused before anybody is asked."""
    case.evaluate(case.answers)
    before = len(case.models.received)
    with pytest.raises(Forbidden, match="decides once"):
        case.evaluate(case.answers)
    assert len(case.models.received) == before


def test_waits_until_the_student_is_served(case: Case) -> None:
    """A student without a URL is waited for; when it never comes, the error says what serves it."""
    with case.house.database.write() as connection:
        registry.set_url(connection, case.reference, None)
    with pytest.raises(NotFound, match="spiritsafe up"):
        case.evaluate(case.answers, wait_s=0)

    def serve() -> None:
        time.sleep(0.2)
        with case.house.database.write() as connection:
            registry.set_url(connection, case.reference, case.models.url)

    thread = threading.Thread(target=serve)
    thread.start()
    assert case.evaluate(case.answers).state == "candidate"
    thread.join()


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("Money", " money.\n", True),
        ('"outage"', "outage", True),
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', True),
        ("{broken", "{broken", True),
        ("money", "monkey", False),
        ('{"a": 1}', '{"a": 2}', False),
        ("", "money", False),
    ],
)
def test_normalised_answers(one: str, other: str, equal: bool) -> None:
    """Case, spacing, quotes and a full stop make no difference, and JSON is compared by its value."""
    assert (normalised(one) == normalised(other)) is equal


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ('{"name": "Ada", "items": ["ink", "pen"]}', 1.0),
        ('{"items": ["pen", "ink"], "name": " ada."}', 1.0),
        ('{"name": "Ada", "items": ["ink"]}', 0.8),
        ('{"name": "Bo", "items": []}', 0.0),
        ("Ada wants ink and a pen", 0.0),
    ],
)
def test_the_f1_of_fields(answer: str, score: float) -> None:
    """Each field counts by its path and value; a list's order makes no difference, and prose has no fields."""
    assert field_f1(answer, '{"name": "Ada", "items": ["ink", "pen"]}') == pytest.approx(score)


def test_a_known_answer_without_fields_is_an_error() -> None:
    """The metric `fields` needs JSON to compare with."""
    with pytest.raises(InvalidValue, match="use `exact`"):
        field_f1("{}", "money")


@pytest.mark.parametrize(
    "line", ["no json", '{"id": "a"}', "[1]", '{"id": 1, "answer": "x"}', '{"id":"a","answer":"y"}']
)
def test_a_bad_answers_file_names_the_line(tmp_path: Path, line: str) -> None:
    """A line that is no answer, or contradicts an earlier one, is named."""
    file = tmp_path / "answers.jsonl"
    file.write_text('{"id": "a", "answer": "x"}\n\n' + line + "\n")
    with pytest.raises(InvalidValue, match="line 3"):
        read_answers(file)


def test_prices_follow_the_time_per_token() -> None:
    """At a quarter of the teacher's time per token the student costs a quarter, and the basis says of what."""
    speed = Speed(student={1: 50.0, 8: 400.0}, teacher={1: 25.0, 8: 100.0})
    prices, basis = student_prices((1000, 3000), speed)
    assert prices == (250, 750)
    assert "× 0.25" in basis
    assert "400 against 100 tokens/s" in basis
