"""Reasons in words and numbers: what stands out from the own past and the peers, and what speaks against it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.account import Account
from detector.windows import INDEX, Sums
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import to_rfc3339

Reason = dict[str, Any]  # feature, value, own_baseline, peer_median, text
FEW_PEERS = 10


@dataclass(frozen=True)
class Comparison:
    """An account's recent window, its own past (None: too little of it) and its peers, by feature."""

    sums: Sums
    window: str
    now: Mapping[str, float]
    past: Mapping[str, float] | None
    peers: Mapping[str, float]
    peer_accounts: int

    def count(self, name: str) -> int:
        """Return one of the window's sums as a whole number."""
        return round(float(self.sums[INDEX[name]]))

    def reason(self, feature: str, text: str, show: Callable[[float], str]) -> Reason:
        """Make a reason whose text ends with the comparison."""
        own = None if self.past is None else _finite(self.past.get(feature))
        peer = _finite(self.peers.get(feature))
        parts = [] if own is None else [f"its own past: {show(own)}"]
        parts += [] if peer is None else [f"peers: {show(peer)}"]
        text = f"{text} ({', '.join(parts)})" if parts else text
        return {
            "feature": feature,
            "value": _finite(self.now.get(feature)),
            "own_baseline": own,
            "peer_median": peer,
            "text": text,
        }


def reasons(account: Account, seen: Comparison, uses: Sequence[DeclaredUse]) -> list[Reason]:
    """Return the reasons, the strongest first, then what speaks against, then what could not be seen."""
    found = _OF_FAMILY[account.cusum.family](seen)
    return [*found, *_against(seen), *_uses(seen, uses), *_limits(seen)]


def _collecting(seen: Comparison) -> list[Reason]:
    unseen, repeated, share = seen.count("unseen"), seen.count("repeated"), seen.now["unseen_share"]
    never = "never came back to one" if repeated == 0 else f"came back to one {_times(repeated)}"
    found = [
        seen.reason(
            "unseen_share",
            f"asked {unseen:,} different things in {seen.window} and {never}: {percent(share)} unseen",
            percent,
        ),
        seen.reason(
            "leaked_per_request",
            f"got {seen.count('leaked_tokens'):,} tokens that neither its prompts nor earlier answers had, "
            f"{seen.now['leaked_per_request']:.0f} a request",
            lambda value: f"{value:.0f}",
        ),
    ]
    if seen.count("spread_known"):
        spread = seen.now["spread"]
        text = f"its subjects lie {percent(spread)} of the way from one template to unrelated texts"
        found.append(seen.reason("spread", text, percent))
    text = f"{percent(seen.now['single_share'])} of its answers stood alone, outside any conversation"
    found.append(seen.reason("single_share", text, percent))
    if seen.count("application_known") and seen.now["application_share"] < 0.5:
        bare = percent(1 - seen.now["application_share"])
        text = f"{bare} of its requests had no instructions, tools or format of an application"
        found.append(seen.reason("application_share", text, lambda value: percent(1 - value)))
    return found


def _resampling(seen: Comparison) -> list[Reason]:
    many, repeated = seen.count("many_choices"), seen.count("repeated")
    found = []
    if repeated:
        text = f"asked {repeated:,} of {seen.count('answered'):,} questions in {seen.window} again, with other seeds"
        found.append(seen.reason("repeated_share", text, percent))
    if many:
        text = f"asked for several answers at once on {many:,} of {seen.count('answered'):,} requests in {seen.window}"
        found.append(seen.reason("many_choices_share", text, percent))
    return [*found, _output(seen)]


def _logprobs(seen: Comparison) -> list[Reason]:
    text = f"asked for token probabilities on {percent(seen.now['logprobs_share'])} of its requests in {seen.window}"
    return [seen.reason("logprobs_share", text, percent), _output(seen), _unseen(seen)]


def _grading(seen: Comparison) -> list[Reason]:
    text = f"had {seen.count('grades'):,} texts graded in {seen.window}"
    return [seen.reason("grades_share", text, percent), _unseen(seen), _output(seen)]


def _reasoning(seen: Comparison) -> list[Reason]:
    text = f"asked for the working behind the answer on {seen.count('elicits'):,} requests in {seen.window}"
    return [seen.reason("elicits_share", text, percent), _unseen(seen), _output(seen)]


_OF_FAMILY: dict[str, Callable[[Comparison], list[Reason]]] = {
    "collecting": _collecting,
    "resampling": _resampling,
    "logprobs": _logprobs,
    "grading": _grading,
    "reasoning": _reasoning,
}


def _unseen(seen: Comparison) -> Reason:
    text = f"{seen.count('unseen'):,} of its {seen.count('answered'):,} questions had not been asked before"
    return seen.reason("unseen_share", text, percent)


def _output(seen: Comparison) -> Reason:
    text = f"got {seen.count('output_tokens'):,} tokens in answers, {seen.now['output_per_request']:.0f} a request"
    return seen.reason("output_per_request", text, lambda value: f"{value:.0f}")


def _against(seen: Comparison) -> list[Reason]:
    found = []
    returns, alone = seen.now["repeated_share"], seen.now["single_share"]
    if returns >= 0.05:
        found.append(seen.reason("repeated_share", f"against it: {percent(returns)} asks something again", percent))
    if alone <= 0.9:
        text = f"against it: {percent(1 - alone)} goes on with a conversation"
        found.append(seen.reason("single_share", text, lambda value: percent(1 - value)))
    if seen.now["users_returning_share"] >= 0.2:
        text = f"against it: {percent(seen.now['users_returning_share'])} comes from end users who were there before"
        found.append(seen.reason("users_returning_share", text, percent))
    return found


def _uses(seen: Comparison, uses: Sequence[DeclaredUse]) -> list[Reason]:
    return [_reason("declared_use", seen.count("requests"), _use_words(seen, use)) for use in uses]


def _use_words(seen: Comparison, use: DeclaredUse) -> str:
    cap = "without a cap" if use.cap_per_day is None else f"up to {use.cap_per_day:,} requests a day"
    until = "" if use.until is None else f" until {to_rfc3339(use.until)[:10]}"
    return f"declared use “{use.use}”, {cap}{until}; it sent {seen.count('requests'):,} in {seen.window}"


def _limits(seen: Comparison) -> list[Reason]:
    found = []
    answered = max(1, seen.count("answered"))
    if seen.peer_accounts < FEW_PEERS:
        text = (
            f"{_accounts(seen.peer_accounts)} to compare with, so the peers' median rests mostly on the "
            "built-in reference of ordinary accounts"
        )
        found.append(_reason("peers", seen.peer_accounts, text))
    if seen.count("unseen_known") < 0.5 * answered:
        found.append(_reason("fingerprints", 0, "no fingerprints are kept, so recurrence and subjects can't be seen"))
    elif seen.count("with_text") < 0.5 * answered:
        text = "texts are not kept, so wording and system prompts can't be seen; recurrence rests on fingerprints"
        found.append(_reason("texts", 0, text))
    return found


def _reason(feature: str, value: float, text: str) -> Reason:
    return {"feature": feature, "value": value, "own_baseline": None, "peer_median": None, "text": text}


def _accounts(count: int) -> str:
    return "no other account" if count == 0 else "one other account" if count == 1 else f"{count} other accounts"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def percent(share: float) -> str:
    """Write a share as whole per cent."""
    return f"{100 * share:.0f} %"


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)
