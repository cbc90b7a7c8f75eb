"""What single requests say."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from detector.evidence import FAMILIES, NOTHING, Context, length_weight, own_share, spread_of, unseen_share, weigh
from detector.memory import Likeness
from detector.observations import Observation, observe
from tests.detector import histories

NEW = Context(Likeness(0.1, 0.1, past=1_000), 0.0, False, 0.0, 0.0, 1e9, 1.0)


@pytest.fixture(scope="module")
def question() -> Observation:
    """Return a short question with a long answer."""
    row = histories.record("a", 0, histories.START, [histories.user("What is moss?")], 200)
    return observe(histories.to_table([row]))[0]


def _family(name: str, seen: Observation, context: Context = NEW) -> float:
    return weigh(seen, context).families[FAMILIES.index(name)]


def test_a_new_question_with_a_long_answer_speaks_for_collecting(question: Observation) -> None:
    """An unseen question that stands alone and brings a long answer weighs nearly one."""
    assert _family("collecting", question) > 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"likeness": Likeness(1.0, 0.1, repeated=True, past=1_000)},
        {"likeness": Likeness(0.1, 0.9, past=1_000)},
        {"continues": 1.0},
        {"mirrored": 1.0},
        {"purity": 0.1},
        {"likeness": Likeness(0.1, 0.1, past=2)},
    ],
    ids=["asked before", "one template", "conversation", "mirrors the input", "mixed use", "no past yet"],
)
def test_what_ordinary_use_has_weighs_against_it(question: Observation, change: dict[str, object]) -> None:
    """Each mark of ordinary use by itself takes a request below the allowance."""
    assert _family("collecting", question, dataclasses.replace(NEW, **change)) < 0.45  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"output": 3.0}, {"input": 2_000.0}, {"answered_tools": True}, {"application": 1.0}],
    ids=["a label", "a long context", "an agent", "an application"],
)
def test_what_ordinary_requests_look_like_weighs_against_it(question: Observation, change: dict[str, object]) -> None:
    """Labels, contexts, agents and applications stay below the allowance."""
    assert _family("collecting", dataclasses.replace(question, **change)) < 0.45  # type: ignore[arg-type]


def test_samples_of_one_prompt_speak_for_resampling(question: Observation) -> None:
    """Many choices, or another seed, count; repeating a prompt as a load test does, or a few suggestions, do not."""
    again = dataclasses.replace(NEW, likeness=Likeness(1.0, 1.0, repeated=True, past=1_000))
    reseeded = dataclasses.replace(NEW, likeness=Likeness(1.0, 1.0, repeated=True, reseeded=True, past=1_000))
    assert _family("resampling", dataclasses.replace(question, choices=16, output=1_600.0)) > 0.9
    assert _family("resampling", question, reseeded) > 0.9
    assert _family("resampling", question, again) == 0.0
    assert _family("resampling", dataclasses.replace(question, choices=3)) < 0.45


def test_log_probabilities_count_by_how_much_they_tell(question: Observation) -> None:
    """Twenty a token on long answers are a harvest; five on a label, as a classifier's confidence needs, are not."""
    assert _family("logprobs", dataclasses.replace(question, top_logprobs=20)) > 0.9
    assert _family("logprobs", dataclasses.replace(question, top_logprobs=5, output=1.0)) < 0.45
    assert _family("logprobs", question) == 0.0


def test_an_answer_that_never_came_says_nothing(question: Observation) -> None:
    """Refused requests, students' answers and unknown lengths carry no evidence."""
    assert weigh(dataclasses.replace(question, teacher=False), NEW) is NOTHING
    assert weigh(dataclasses.replace(question, output=float("nan")), NEW) is NOTHING


def test_novelty_leaked_is_output_times_unseen_times_own() -> None:
    """The three factors of leaked novelty are each between zero and one, and monotone."""
    for measure in (unseen_share, spread_of, length_weight):
        values = [measure(x) for x in np.linspace(0, 1, 11)]
        assert all(0 <= value <= 1 for value in values)
        assert values in (sorted(values), sorted(values, reverse=True))
    assert own_share(100, 100) == 0.5
    assert own_share(1_000, 50) < 0.01 < 0.98 < own_share(20, 200)
