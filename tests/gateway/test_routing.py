"""Who answers: named models, `auto`, and what a caller may see."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.adequacy import AdequacyFiles
from gateway.errors import ModelNotFound
from gateway.fleet.pools import Fleet
from gateway.ledger.distance import Distance
from gateway.ledger.identifiers import now
from gateway.ledger.registry import State, Student
from gateway.protocol.preferences import Preferences
from gateway.protocol.requests import InferenceRequest, parse_request
from gateway.routing import Catalogue, CheapestRouter, RouteRequest, build_catalogue
from gateway.settings import ModelSettings, Settings
from tests.checks import check_router

SYSTEM = {"role": "system", "content": "Name the colour of the fruit in one word."}
FRUITS = ("apple", "pear", "plum", "cherry", "banana", "lemon", "fig", "grape", "kiwi", "mango")
ROWS = [f"Which colour has a {ripe} {fruit}?" for fruit in FRUITS for ripe in ("ripe", "fresh", "old")]
FAR = "Prove that there are infinitely many primes, step by step, and discuss three other proofs."


def request(text: str, system: dict[str, str] = SYSTEM, **fields: Any) -> InferenceRequest:
    body = {"model": "auto", "messages": [system, {"role": "user", "content": text}]} | fields
    return parse_request("chat.completions", json.dumps(body).encode())


@pytest.fixture(scope="module")
def distance_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distance fitted on a few rows, with a threshold made by hand."""
    path = tmp_path_factory.mktemp("student") / "distance.npz"
    fitted = Distance.fit(ROWS)
    near, far = fitted.distance("Which colour has a ripe fig?"), fitted.distance(FAR)
    assert near < far
    fitted.with_threshold((near + far) / 2).save(path)
    return path


def student(adequacy: Path | None, state: State = "promoted", version: int = 1, **fields: Any) -> Student:
    made = Student(
        name="fruit",
        version=version,
        task="fruit-colour",
        endpoint="chat.completions",
        skeleton=request("x").skeleton,
        snapshot="s",
        teacher="teacher",
        path="p",
        state=state,
        created=now(),
        parameters=1,
        context_length=512,
        licence="Apache-2.0",
        training={},
        url="http://127.0.0.1:1002",
        adequacy=str(adequacy) if adequacy else None,
        gate={"lower_bound": 0.9},
        input_price=400,
        output_price=1200,
    )
    return dataclasses.replace(made, **fields)


def catalogue(*students: Student) -> Catalogue:
    teacher = ModelSettings("teacher", "teacher", ("http://127.0.0.1:1001",), input_price=1.0, output_price=3.0)
    return build_catalogue(Settings(models=(teacher,)), students, Fleet(), AdequacyFiles())


def reason(models: Catalogue, wanted: RouteRequest) -> tuple[str, str]:
    decision = CheapestRouter().choose(wanted, models.automatic())
    return decision.candidate.name, decision.reason


def test_the_cheapest_router_is_a_router(distance_file: Path) -> None:
    """It keeps what every router promises."""
    models = catalogue(student(distance_file))
    task = RouteRequest(request("Which colour has a ripe fig?"))
    check_router(CheapestRouter(), task, RouteRequest(request(FAR)), models.automatic())


def test_adequate_requests_go_to_the_student(distance_file: Path) -> None:
    """The task and the distance stand in the decision, for the record."""
    models = catalogue(student(distance_file))
    wanted = RouteRequest(request("Which colour has a fresh plum?"))
    decision = CheapestRouter().choose(wanted, models.automatic())
    assert (decision.candidate.name, decision.reason, decision.task) == ("fruit@1", "adequate", "fruit-colour")
    assert decision.adequacy is not None


def test_every_other_request_goes_to_the_teacher_with_its_reason(distance_file: Path) -> None:
    """The reason is that of the student that came nearest."""
    near = request("Which colour has a fresh plum?")
    models = catalogue(student(distance_file))
    other_task = request("Which colour has a fresh plum?", {"role": "system", "content": "Translate."})
    with_tools = request("Which colour has a fresh plum?", tools=[{"type": "function", "function": {"name": "f"}}])
    floor = Preferences(quality_floor=0.95)
    assert reason(catalogue(), RouteRequest(near)) == ("teacher", "no_student")
    assert reason(models, RouteRequest(other_task)) == ("teacher", "not_task")
    assert reason(models, RouteRequest(with_tools)) == ("teacher", "not_task")
    assert reason(models, RouteRequest(request(FAR))) == ("teacher", "too_far")
    assert reason(models, RouteRequest(near, floor)) == ("teacher", "quality_floor")
    assert reason(models, RouteRequest(near, Preferences(quality_floor=0.9))) == ("fruit@1", "adequate")
    assert reason(models, RouteRequest(near, Preferences(high_stakes=True))) == ("teacher", "stakes")


def test_a_protected_slice_stays_with_the_teacher(distance_file: Path) -> None:
    """Requests whose metadata say that they are in a slice that the gate did not prove are the teacher's."""
    slices = [
        {"slice": "language=de", "stays_with_teacher": True},
        {"slice": "language=fr", "stays_with_teacher": False},
    ]
    models = catalogue(student(distance_file, gate={"lower_bound": 0.9, "slices": slices}))
    for language, expected in (("de", ("teacher", "protected")), ("fr", ("fruit@1", "adequate"))):
        wanted = request("Which colour has a fresh plum?", metadata={"language": language})
        assert reason(models, RouteRequest(wanted)) == expected
    assert reason(models, RouteRequest(request("Which colour has a fresh plum?"))) == ("fruit@1", "adequate")


def test_a_rollout_gets_its_share_and_the_incumbent_the_rest(distance_file: Path) -> None:
    """A tenth of the draws goes to the candidate, though dearer; the others to the incumbent, else to the teacher."""
    staged = student(distance_file, "candidate", 2, rollout={"stage": "10"}, input_price=500)
    near = RouteRequest(request("Which colour has a fresh plum?"))
    for draw, alone, beside in ((0.05, "fruit@2", "fruit@2"), (0.1, "teacher", "fruit@1")):
        router = CheapestRouter(itertools.repeat(draw).__next__)
        decision = router.choose(near, catalogue(staged).automatic())
        assert (decision.candidate.name, decision.reason) == (alone, "adequate" if draw < 0.1 else "rollout")
        both = catalogue(student(distance_file), staged)
        assert router.choose(near, both.automatic()).candidate.name == beside
        assert [c.name for c in both.automatic(diverted=True)] == ["fruit@1", "teacher"]


def test_a_shadow_gets_nothing(distance_file: Path) -> None:
    """In the shadow, and once stopped, a candidate is none of `auto`'s."""
    for rollout in ({"stage": "shadow"}, {"stage": None, "stopped": "worse"}, None):
        models = catalogue(student(distance_file, "candidate", rollout=rollout))
        assert reason(models, RouteRequest(request("Which colour has a fresh plum?"))) == ("teacher", "no_student")


@pytest.mark.parametrize("broken", [{"url": None}, {"adequacy": None}, {"adequacy": "/nowhere/distance.npz"}])
def test_a_student_that_is_not_ready_answers_nothing(distance_file: Path, broken: dict[str, Any]) -> None:
    """Without an address or a readable distance the teacher answers, and the reason says why."""
    models = catalogue(dataclasses.replace(student(distance_file), **broken))
    assert reason(models, RouteRequest(request("Which colour has a ripe fig?"))) == ("teacher", "unhealthy")


def test_a_student_without_a_gate_is_below_every_floor(distance_file: Path) -> None:
    """A floor asks for proof."""
    models = catalogue(student(distance_file, gate=None))
    floor = Preferences(quality_floor=0.0)
    assert reason(models, RouteRequest(request("Which colour has a ripe fig?"), floor)) == ("teacher", "quality_floor")


def test_a_dearer_student_is_not_the_cheapest(distance_file: Path) -> None:
    """Adequate is not enough: the teacher answers where it costs less."""
    models = catalogue(student(distance_file, input_price=9000))
    assert reason(models, RouteRequest(request("Which colour has a ripe fig?"))) == ("teacher", "adequate")


def test_only_a_student_that_can_take_the_request_answers(distance_file: Path) -> None:
    """The reason says that it was of its task and still not for it: too long an answer, or more than text."""
    models = catalogue(student(distance_file))
    text = "Which colour has a ripe fig?"
    assert reason(models, RouteRequest(request(text, max_tokens=300))) == ("fruit@1", "adequate")
    assert reason(models, RouteRequest(request(text, max_tokens=600))) == ("teacher", "unfit")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    seen = json.dumps({"model": "auto", "messages": [SYSTEM, {"role": "user", "content": [picture]}]})
    wanted = RouteRequest(parse_request("chat.completions", seen.encode()))
    assert reason(models, wanted) == ("teacher", "unfit")


def test_a_diverted_request_that_no_student_can_take_stays_diverted(distance_file: Path) -> None:
    """The student refuses it: a long prompt is no way back to the teacher."""
    models = catalogue(student(distance_file))
    assert reason(models, RouteRequest(request("x " * 3000), diverted=True)) == ("fruit@1", "policy")


def test_another_teacher_takes_what_the_first_cannot() -> None:
    """The first takes all that it can, and what nobody can, so that the caller hears why."""
    urls = ("http://127.0.0.1:1001",)
    plain = ModelSettings("plain", "teacher", urls, context_length=1000)
    seeing = ModelSettings("seeing", "teacher", urls, context_length=4000, modalities=("image",))
    models = build_catalogue(Settings(models=(plain, seeing)), (), Fleet(), AdequacyFiles())
    assert reason(models, RouteRequest(request("short"))) == ("plain", "no_student")
    assert reason(models, RouteRequest(request("x" * 3000))) == ("seeing", "unfit")
    assert reason(models, RouteRequest(request("x" * 30000))) == ("plain", "no_student")


def test_only_promoted_students_take_part_in_auto(distance_file: Path) -> None:
    """Candidates and freshly trained ones are not asked."""
    models = catalogue(student(distance_file, "candidate"), student(distance_file, "trained", 2))
    assert reason(models, RouteRequest(request("Which colour has a ripe fig?"))) == ("teacher", "no_student")


def test_diversion_needs_a_student_that_is_up(distance_file: Path) -> None:
    """A diverted account gets the teacher only while no student is there, and the reason shows it."""
    wanted = RouteRequest(request(FAR), diverted=True)
    assert reason(catalogue(student(distance_file)), wanted) == ("fruit@1", "policy")
    assert reason(catalogue(student(distance_file, url=None)), wanted) == ("teacher", "unhealthy")
    assert reason(catalogue(), wanted) == ("teacher", "no_student")


def test_names(distance_file: Path) -> None:
    """A name means the promoted version; what is not promoted exists for operators only."""
    models = catalogue(
        student(distance_file, "promoted", 1), student(distance_file, "candidate", 2), student(None, "trained", 3)
    )
    assert models.named("fruit", operator=False).name == "fruit@1"
    assert models.named("fruit", operator=True).name == "fruit@1"
    assert models.named("fruit@3", operator=True).name == "fruit@3"
    assert [c.name for c in models.visible(operator=False)] == ["teacher", "fruit@1"]
    assert {c.name for c in models.visible(operator=True)} == {"teacher", "fruit@1", "fruit@2", "fruit@3"}
    for name in ("fruit@2", "fruit@3", "fruit@9", "nobody", ""):
        with pytest.raises(ModelNotFound):
            models.named(name, operator=False)
    assert catalogue(student(None, "trained", 3)).named("fruit", operator=True).name == "fruit@3"


def test_prices_of_a_student_without_its_own(distance_file: Path) -> None:
    """Until the gate has set prices a student costs what its teacher costs."""
    models = catalogue(student(distance_file, "trained", input_price=None, output_price=None))
    assert models.named("fruit", operator=True).prices == (1000, 3000)


def test_auto_considers_only_models_in_scope(distance_file: Path) -> None:
    """A student out of scope is no candidate; a student's name stands for its versions; the teacher must be in it."""
    models, near = catalogue(student(distance_file)), RouteRequest(request("Which colour has a fresh plum?"))
    for scope, chosen in (
        (("teacher",), "teacher"),
        (("teacher", "fruit"), "fruit@1"),
        (("teacher", "fruit@1"), "fruit@1"),
    ):
        assert CheapestRouter().choose(near, models.automatic(scope)).candidate.name == chosen
    assert not models.has_automatic(("fruit",))
    with pytest.raises(ModelNotFound):
        models.automatic(("fruit",))


def test_a_scope_is_no_way_around_a_diversion(distance_file: Path) -> None:
    """A diverted account's `auto` goes to a student that its key's scope leaves out."""
    models, far = catalogue(student(distance_file)), RouteRequest(request(FAR), diverted=True)
    candidates = models.automatic(("teacher",), diverted=True)
    assert CheapestRouter().choose(far, candidates).reason == "policy"


def test_a_model_out_of_scope_is_not_found(distance_file: Path) -> None:
    """By name and by version, and it is not listed; the newest version in scope is what a student's name means."""
    models = catalogue(student(distance_file), student(None, "candidate", 2))
    assert models.named("fruit", True, ("fruit@2",)).name == "fruit@2"
    assert [found.name for found in models.visible(True, ("fruit@2", "unborn"))] == ["fruit@2"]
    for name in ("teacher", "fruit@1"):
        with pytest.raises(ModelNotFound):
            models.named(name, True, ("fruit@2",))
