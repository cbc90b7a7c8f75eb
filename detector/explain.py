"""Reasons in words and numbers: what carries an account's score, and what speaks against it.

How much something carries is how far the log-odds fall when its features are put to the peers' medians, one group at a
time. A reason names the group's plainest feature, with the account's own past and the peers' median beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import features, rules, sketch
from detector.features import NAMES
from detector.scoring import Model
from detector.sketch import FAST, INDEX, SLOW, States
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import to_rfc3339

Reason = dict[str, Any]  # feature, value, own_baseline, peer_median, text
FEW_PEERS = 10
CARRIES = 0.1  # log-odds: less is not worth a sentence
MOST_REASONS, MOST_AGAINST = 5, 3
Row = Mapping[str, float]


@dataclass(frozen=True)
class Account:
    """One account's features, `now` at both paces, and its counts over about four weeks."""

    now: Row
    peers: Row
    state: States
    counts: Row

    @property
    def requests(self) -> int:
        """Requests since the first."""
        return int(self.state["total"][0])

    def count(self, name: str) -> str:
        """Return one of the sums as it is written."""
        return f"{round(self.counts[name]):,}"


@dataclass(frozen=True)
class Group:
    """Features that stand for one thing: all of them, the plainest, how it is written, and a sentence."""

    members: tuple[str, ...]
    feature: str
    show: Callable[[float], str]
    text: Callable[[Account], str]
    past: str | None = None  # the same thing at the slow pace, where `feature` is the fast one


def percent(share: float) -> str:
    """Write a share as whole per cent."""
    return f"{100 * share:.0f} %"


def _tokens(value: float) -> str:
    return f"{max(0.0, math.expm1(value)):,.0f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


def _share(feature: str, words: str) -> Callable[[Account], str]:
    return lambda account: f"{percent(account.now[feature])} {words}"


def _different(account: Account) -> str:
    count = min(account.requests, round(float(sketch.counted(account.state, "items")[0])))
    repeated = account.counts["repeated"]
    never = "hardly ever came back to one" if repeated < 0.02 * account.counts["requests"] else "came back to some"
    return f"asked about {count:,} different things in {account.requests:,} requests and {never}"


def _resampled(account: Account) -> str:
    if account.now["seeded_slow"] > 0.3:
        return f"asked {account.count('repeated')} questions again, with other seeds"
    return f"asked {account.count('repeated')} questions of {account.count('requests')} again"


GROUPS: tuple[Group, ...] = (
    Group(
        ("logprobs_slow", "logprob_tokens"), "logprobs_slow", percent,
        lambda a: f"asked for token probabilities on {percent(a.now['logprobs_slow'])} of its requests",
    ),
    Group(
        ("many_slow", "choices_slow"), "many_slow", percent,
        lambda a: f"asked for several answers at once on {percent(a.now['many_slow'])} of its requests",
    ),
    Group(
        ("seeded_slow", "seeds_share", "seeds_count", "repeated_answer_slow", "repeated_slow", "repeated_fast",
         "repeated_change"),
        "repeated_slow", percent, _resampled,
    ),
    Group(
        ("elicits_slow",), "elicits_slow", percent,
        lambda a: f"asked for the working behind the answer on {percent(a.now['elicits_slow'])} of its requests",
    ),
    Group(
        ("grades_slow",), "grades_slow", percent,
        lambda a: f"had texts graded on {percent(a.now['grades_slow'])} of its requests",
    ),
    Group(
        ("novelty_slow", "novelty_fast", "novelty_change", "items_share", "items_count", "growth", "stream_novelty"),
        "novelty_slow", percent, _different,
    ),
    Group(
        ("leaked_month", "leaked_week", "leaked_today", "leaked_per_request", "stream_leaked", "stream_leaked_most"),
        "leaked_month", _tokens,
        lambda a: f"got {_tokens(a.now['leaked_month'])} tokens in 28 days that neither its prompts nor earlier "
        f"answers had, {_tokens(a.now['leaked_per_request'])} a request",
    ),
    Group(
        ("requests_month", "requests_slow", "requests_fast", "per_active_day", "busiest_day", "week_share"),
        "requests_month", _tokens, lambda a: f"sent {_tokens(a.now['requests_month'])} requests in 28 days",
    ),
    Group(
        ("output_month", "output_per_request", "log_out_slow", "log_out_fast", "log_out_change", "long_slow",
         "very_long_slow", "tiny_slow", "tiny_fast", "tiny_change", "spread_out_slow", "stream_output"),
        "output_per_request", _tokens,
        lambda a: f"got {_tokens(a.now['output_per_request'])} tokens an answer",
    ),
    Group(
        ("single_slow", "single_fast", "single_change", "continued_slow", "turns_slow", "deep_slow", "talk_length",
         "conversations_share", "conversations_count", "stream_single"),
        "single_fast", percent, _share("single_fast", "of its answers stood alone, outside any conversation"),
        "single_slow",
    ),
    Group(
        ("system_slow", "application_slow", "application_fast", "application_change"), "application_slow", percent,
        lambda a: f"{percent(1 - a.now['application_slow'])} of its requests had no instructions of an application",
    ),
    Group(
        ("subjects_share", "subjects_count", "subject_growth", "alike", "topic_entropy", "topic_entropy_fast",
         "same_topic_slow", "same_topic_fast", "same_topic_change"),
        "alike", _plain, lambda a: f"two of its requests are alike by {_plain(a.now['alike'])} (1: the same)",
    ),
    Group(
        ("drift", "hot_change", "log_in_change"), "drift", _plain,
        lambda a: f"its subjects of late have left those of its past by {_plain(a.now['drift'])} (0.69: wholly)",
    ),
    Group(
        ("log_in_slow", "log_in_fast", "ratio_slow", "mirrored_slow", "spread_in_slow"), "ratio_slow", _plain,
        lambda a: f"its answers are {math.exp(a.now['ratio_slow']):.1f} times as long as what it sends",
    ),
    Group(
        ("users_share", "users_count", "named_user_slow"), "users_count", _tokens,
        lambda a: f"named about {_tokens(a.now['users_count'])} end users",
    ),
    Group(
        ("skeletons_share", "skeletons_count", "streams_entropy", "stream_share"), "stream_share", percent,
        lambda a: f"{percent(a.now['stream_share'])} of its requests are of the one task that leaks most",
    ),
    Group(
        ("temperature_set_slow", "hot_slow", "hot_fast", "cold_slow", "capped_slow", "cut_slow", "stream_slow",
         "steered_slow", "structured_slow"),
        "hot_slow", percent, _share("hot_slow", "of its requests were drawn at a high temperature"),
    ),
    Group(
        ("gap_1_slow", "gap_10_slow", "gap_60_slow", "gap_600_slow", "gap_more_slow", "night_slow", "unevenness",
         "active_days", "active_share", "age"),
        "active_share", percent, _share("active_share", "of the days since its first request had traffic"),
    ),
    Group(
        ("tools_slow", "tool_results_slow"), "tools_slow", percent,
        lambda a: f"declared tools on {percent(a.now['tools_slow'])} of its requests and answered "
        f"{a.count('tool_results')} calls",
    ),
)  # fmt: skip
# The features that rules (`rules.RULES`) are named by, and those that make up half of what is asked.
_OF_RULE = {"logprobs": "logprobs_slow", "choices": "many_slow", "seeds": "repeated_slow", "working": "elicits_slow",
            "bulk": "novelty_slow", "drip": "novelty_slow", "sweep": "novelty_slow"}  # fmt: skip
_HALF = ("logprobs_slow", "many_slow", "elicits_slow")


def reasons(
    model: Model, state: States, medians: npt.NDArray[np.float32], others: int, uses: Sequence[DeclaredUse]
) -> list[Reason]:
    """Return the reasons, the strongest first, then what speaks against, then what could not be seen."""
    values = features.matrix(state)
    weights = _carried(model, values, medians)
    account = _account(state, values, medians)
    order = np.argsort(-weights, kind="stable")
    known = [place for place in order if not math.isnan(account.now[GROUPS[place].feature])]
    found = [place for place in known if weights[place] >= CARRIES][:MOST_REASONS] or known[:1]
    # What is a way of harvesting in itself is named first, whatever it adds to the rest.
    ways = _ways(values, account)
    first = sorted((p for p in known if GROUPS[p].feature in ways), key=lambda p: ways.index(GROUPS[p].feature))
    found = [*first, *(place for place in found if place not in first)][:MOST_REASONS]
    lowers = [place for place in known[::-1] if weights[place] <= -CARRIES or _returns(GROUPS[place], account)]
    against = [place for place in lowers if place not in found][:MOST_AGAINST]
    told = [_reason_of(GROUPS[place], account) for place in found]
    told += [_reason_of(GROUPS[place], account, "against it: ") for place in against]
    return [*told, *(_use(account, use) for use in uses), *_limits(account, others)]


def _carried(
    model: Model, values: npt.NDArray[np.float32], medians: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    changed = np.repeat(values, len(GROUPS) + 1, axis=0)
    for row, columns in enumerate(_COLUMNS):
        changed[row, columns] = medians[columns]
    odds = model.log_odds(changed)
    return np.asarray(odds[-1] - odds[:-1])


def _account(state: States, values: npt.NDArray[np.float32], medians: npt.NDArray[np.float32]) -> Account:
    sums = state["sums"][0, SLOW].astype(np.float64)
    counts = {name: float(sums[place]) for name, place in INDEX.items()}
    now = dict(zip(NAMES, values[0].astype(float).tolist(), strict=True))
    return Account(now, dict(zip(NAMES, medians.astype(float).tolist(), strict=True)), state, counts)


def _ways(values: npt.NDArray[np.float32], account: Account) -> list[str]:
    broken = (name for name, hit in zip(rules.RULES, rules.broken(values)[0], strict=True) if hit)
    half = (name for name in _HALF if account.now[name] >= 0.5)
    return list(dict.fromkeys([*half, *(_OF_RULE[name] for name in broken)]))


def _returns(group: Group, account: Account) -> bool:
    """Return whether the account asks some things again without redrawing them, whatever the trees make of it."""
    return group.feature == "repeated_slow" and account.now["repeated_slow"] >= 0.03 > account.now["seeded_slow"]


def _reason_of(group: Group, account: Account, before: str = "") -> Reason:
    value, peer = account.now[group.feature], account.peers[group.feature]
    own = _own_baseline(group, account)
    parts = [] if own is None else [f"its own past: {group.show(own)}"]
    parts += [] if math.isnan(peer) else [f"peers: {group.show(peer)}"]
    text = f"{before}{group.text(account)}" + (f" ({', '.join(parts)})" if parts else "")
    if group.show is _tokens:  # a logarithm among the features, a number to people
        value, peer = math.expm1(value), math.expm1(peer)
    return _reason(group.feature, value, text, own, peer)


def _own_baseline(group: Group, account: Account) -> float | None:
    slow = group.past or group.feature
    fast = slow.replace("_slow", "_fast")
    if fast not in account.now or slow == fast:
        return None
    # What the slow pace would be without the fast one's requests.
    sums = account.state["sums"][0, :, INDEX["requests"]].astype(float)
    before = float(sums[SLOW] - sums[FAST])
    if before < features.ENOUGH_PAST:
        return None
    found = (account.now[slow] * float(sums[SLOW]) - account.now[fast] * float(sums[FAST])) / before
    return None if math.isnan(found) else max(0.0, found)


def _use(account: Account, use: DeclaredUse) -> Reason:
    cap = "without a cap" if use.cap_per_day is None else f"up to {use.cap_per_day:,} requests a day"
    until = "" if use.until is None else f" until {to_rfc3339(use.until)[:10]}"
    today = float(account.state["today"][0, 0])
    text = f"declared use “{use.use}”, {cap}{until}; it sent {today:,.0f} on its newest day"
    return _reason("declared_use", today, text)


def _limits(account: Account, others: int) -> list[Reason]:
    found = []
    requests = max(1.0, account.counts["requests"])
    if others < FEW_PEERS:
        who = "no other account" if others == 0 else "one other account" if others == 1 else f"{others} other accounts"
        text = f"{who} to compare with, so the peers' median rests mostly on the built-in one of ordinary accounts"
        found.append(_reason("peers", others, text))
    if account.counts["novelty_known"] < 0.5 * requests:
        text = "no fingerprints are kept, so recurrence and subjects can't be seen"
        found.append(_reason("fingerprints", 0, text))
    elif account.counts["text"] < 0.5 * requests:
        text = "texts are not kept, so wording and system prompts can't be seen; recurrence rests on fingerprints"
        found.append(_reason("texts", 0, text))
    return found


def _reason(feature: str, value: float, text: str, own: float | None = None, peer: float = math.nan) -> Reason:
    return {
        "feature": feature,
        "value": _finite(value),
        "own_baseline": None if own is None else _finite(own),
        "peer_median": _finite(peer),
        "text": text,
    }


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)


_COLUMNS = tuple(features.places(group.members) for group in GROUPS)
