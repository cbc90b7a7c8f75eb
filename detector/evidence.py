"""What one request says about harvesting: novelty leaked, and how far it speaks for each way of harvesting (0 to 1).

Novelty leaked = output tokens × (1 − similarity to the account's own past) × the share of the answer that the prompt
did not supply. A translation, a retrieval or a label rests on what was sent; an answer to a short question is the
model's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from detector.memory import Likeness
from detector.observations import TINY_ANSWER, Observation

FAMILIES = ("collecting", "resampling", "logprobs", "grading", "reasoning")

SAME_QUESTION = 0.6  # a Jaccard similarity from here to 1 counts less and less as unseen
ONE_TEMPLATE, UNRELATED = 0.6, 0.25  # mean cosine between requests of one template, and between unrelated ones
HALF_ANSWER = 8.0  # output tokens at which an answer counts half
SHORT_PAST = (
    40.0  # with a past of so many requests "not asked before" counts half: a young account has seen nothing yet
)
FIRST_DAYS_PAST = 120.0  # … and so many in its first 36 hours: a nightly job has no yesterday yet to come back to
FIRST_DAYS_S = 36 * 3600.0
GREEDY = 0.9  # weight of an answer drawn at a temperature near zero, as tests of a model do
UNKNOWN = 0.8  # stands in for what no fingerprint tells; alone it can't carry an account to "high"
APPLICATION = 0.4  # weight of a request behind an application's own system prompt, tools or output format
RETURNING_USER = 0.7  # weight of a request of an end user who came before


@dataclass(frozen=True, slots=True)
class Context:
    """What the account's earlier requests say about this one."""

    likeness: Likeness
    continues: float  # 0 to 1: it goes on with an earlier conversation
    returning_user: bool  # its end user came before
    overhead: float  # input tokens that every request of the account has: chat template, system prompt
    mirrored: float  # squared correlation of the logarithms of input and output lengths: answers mirror their inputs
    age_s: float  # seconds since its first request
    purity: float  # share of late that was both unseen and outside any conversation, 0 to 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """One request's contribution. `unseen` and `spread` are 0 to 1 (None: not known), `leaked` is in tokens."""

    unseen: float | None
    spread: float | None
    single: float
    leaked: float
    families: tuple[float, ...]  # 0 to 1 each, in the order of FAMILIES


NOTHING = Evidence(None, None, 0.0, 0.0, (0.0,) * len(FAMILIES))


def weigh(seen: Observation, context: Context) -> Evidence:
    """Weigh a request; one that the teacher did not answer says nothing."""
    if not seen.teacher or math.isnan(seen.output):
        return NOTHING
    likeness = context.likeness
    unseen = None if likeness.nearest is None else unseen_share(likeness.nearest)
    spread = None if likeness.average is None else spread_of(likeness.average)
    fresh = (UNKNOWN if unseen is None else unseen) * _past_weight(likeness.past, context.age_s)
    wide = UNKNOWN if spread is None else spread
    single = 0.0 if seen.answered_tools else 1.0 - context.continues
    own = own_share(seen.input - context.overhead, seen.output)
    answer = fresh * own * length_weight(seen.output) * single * context.purity * (1.0 if seen.sampled else GREEDY)
    structure = structure_weight(seen, context)
    families = (
        answer * wide * structure,
        _resampling(seen, likeness),
        _logprobs(seen, fresh, wide),
        _grading(seen, fresh, wide) * single,
        answer * max(seen.elicits, seen.system_elicits * structure),
    )
    return Evidence(unseen, spread, single, seen.output * (UNKNOWN if unseen is None else unseen) * own, families)


def unseen_share(nearest: float) -> float:
    """Turn the similarity to the nearest past request into the share that was not asked before."""
    return min(1.0, max(0.0, (1.0 - nearest) / (1.0 - SAME_QUESTION)))


def spread_of(average: float) -> float:
    """Turn the mean similarity to recent requests into a spread of subjects: 0 one template, 1 unrelated texts."""
    return min(1.0, max(0.0, (ONE_TEMPLATE - average) / (ONE_TEMPLATE - UNRELATED)))


def own_share(input_tokens: float, output_tokens: float) -> float:
    """Return the share of an answer that its prompt did not supply: 0.5 where both are as long."""
    if math.isnan(output_tokens) or output_tokens <= 0:
        return 0.0
    if math.isnan(input_tokens):
        return UNKNOWN
    ratio = output_tokens / max(1.0, input_tokens)
    return ratio * ratio / (1.0 + ratio * ratio)


def length_weight(output_tokens: float) -> float:
    """Weigh an answer by its length: a label is worth little, a paragraph almost all."""
    return output_tokens / (output_tokens + HALF_ANSWER)


def _past_weight(past: int, age_s: float) -> float:
    return past / (past + (FIRST_DAYS_PAST if age_s < FIRST_DAYS_S else SHORT_PAST))


def structure_weight(seen: Observation, context: Context) -> float:
    """Weigh a request by what applications add to it: instructions, returning users, answers that mirror inputs."""
    application = 0.0 if seen.application is None else seen.application
    weight = 1.0 - (1.0 - APPLICATION) * application
    return weight * (RETURNING_USER if context.returning_user else 1.0) * (1.0 - context.mirrored)


def _resampling(seen: Observation, likeness: Likeness) -> float:
    if not seen.sampled:
        return 0.0
    drawn = max(min(1.0, (seen.choices - 1) / 8), 1.0 if likeness.reseeded else 0.0)
    return drawn * length_weight(seen.output / seen.choices)


def _logprobs(seen: Observation, fresh: float, spread: float) -> float:
    if not seen.top_logprobs:
        return 0.0
    if seen.output <= 2 and seen.top_logprobs >= 5:  # one position's whole distribution is what is asked for
        return 0.8 * fresh * spread * min(1.0, seen.top_logprobs / 15)
    numbers = seen.output * seen.top_logprobs
    return (0.2 + 0.8 * fresh) * numbers / (numbers + 100.0)


def _grading(seen: Observation, fresh: float, spread: float) -> float:
    if not seen.grades or seen.output > 4 * TINY_ANSWER:
        return 0.0
    return 0.9 * fresh * (0.6 + 0.4 * spread)  # a rubric of its own makes texts alike without making them narrow
