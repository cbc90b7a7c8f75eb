"""What a step would have done to the requests of a past week: a dry run, with the arithmetic spelt out.

A request is *stopped* where the teacher would not have answered it: it is refused, or a student answers. It is
*changed* where somebody still answers it, but not as it was asked: a student, or without log-probabilities or further
choices. The rules are those of admission, applied to what the lake has; imported and live rows count, made-up ones do
not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger.enforcement import ACTIONS, Step
from gateway.ledger.lake import Lake, millisecond

PERIOD = timedelta(days=7)
NANO = 1_000_000_000
_COLUMNS = ["time", "account", "endpoint", "model_requested", "model_role", "usage", "cost", "parameters"]
_ANSWERED = [200, 499]
_NO_DIVERSION = "embeddings"  # vectors of two models can't be compared, so no student answers there


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request. `tokens` are the output's, `choices` how many answers it asked for."""

    account: str
    time: datetime
    teacher: bool
    automatic: bool
    embeds: bool
    tokens: int
    cost: int
    logprobs: bool
    choices: int

    @property
    def is_stripped(self) -> bool:
        """Would `strip` change it?"""
        return self.logprobs or self.choices > 1

    @property
    def tokens_if_stripped(self) -> int:
        """Its output with one choice, taking all choices for equally long."""
        return -(-self.tokens // self.choices)


@dataclass(frozen=True)
class Estimate:
    """Sums over answered requests: all, those to the teacher, and what a step would have made of them.

    `stopped_tokens` are teacher's output tokens that would not have been made, `stopped_cost` what the stopped requests
    were billed (nano-dollars). `others_refused` and `others_changed` are the part of accounts that no alert suspects,
    where several are hit: a step against one account touches no request of another.
    """

    requests: int = 0
    teacher_requests: int = 0
    teacher_tokens: int = 0
    refused: int = 0
    changed: int = 0
    stopped_requests: int = 0
    stopped_tokens: int = 0
    stopped_cost: int = 0
    others_refused: int = 0
    others_changed: int = 0

    @property
    def share(self) -> float | None:
        """The stopped part of the teacher's tokens; None where there were none."""
        return self.stopped_tokens / self.teacher_tokens if self.teacher_tokens else None

    def __add__(self, other: Estimate) -> Estimate:
        """Add two up."""
        return Estimate(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})

    def sentence(self, days: int = PERIOD.days) -> str:
        """Say it in words, with the numbers it comes from."""
        if not self.requests:
            return f"No request of the last {days} days was answered, so there is nothing to go by."
        share = "none of the" if self.share is None else f"{self.share:.0%} of the"
        return (
            f"Would have stopped {share} teacher tokens of the last {days} days "
            f"({self.stopped_tokens:,} of {self.teacher_tokens:,} tokens; {self.stopped_requests:,} of "
            f"{self.teacher_requests:,} requests to the teacher, ${self.stopped_cost / NANO:,.2f}), refused "
            f"{self.refused:,} and changed {self.changed:,} of {self.requests:,} requests, among them "
            f"{self.others_refused:,} and {self.others_changed:,} of others."
        )

    def figures(self) -> dict[str, Any]:
        """Return the numbers, the share and the sentence, for JSON."""
        return {**vars(self), "share": self.share, "sentence": self.sentence()}


@dataclass(frozen=True)
class House:
    """What decides how a step works: is a student promoted, and which accounts let named models be diverted.

    `suspected` are the accounts that an open or confirmed alert names; None: whoever is hit is meant.
    """

    student: bool = False
    divert_named: Collection[str] = ()
    suspected: Collection[str] | None = None


def read(lake: Lake, names: Sequence[str], since: datetime, until: datetime | None = None) -> list[Request]:
    """Return the answered requests of accounts in a period, oldest first."""
    chosen = pc.field("account").isin(list(names)) & (pc.field("time") >= millisecond(since))
    chosen &= pc.field("status").isin(_ANSWERED) & (pc.field("origin") != "synthetic")
    if until is not None:
        chosen &= pc.field("time") < millisecond(until)
    if not lake.exists():
        return []
    return _requests(lake.read(columns=_COLUMNS, filter=chosen).sort_by("time"))


def estimate(requests: Iterable[Request], step: Step, house: House) -> dict[str, Estimate]:
    """Return, by account, what a step would have done to its requests, which come oldest first."""
    found: dict[str, Estimate] = {}
    spent: dict[tuple[str, str], int] = {}
    for request in requests:
        one = _one(request, step, house, spent)
        if house.suspected is not None and request.account not in house.suspected:
            one = one + Estimate(others_refused=one.refused, others_changed=one.changed)
        found[request.account] = found.get(request.account, Estimate()) + one
    return found


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Add estimates up."""
    return sum(estimates, Estimate())


def _one(request: Request, step: Step, house: House, spent: dict[tuple[str, str], int]) -> Estimate:
    strips = ACTIONS.index(step.action) >= ACTIONS.index("strip") and request.is_stripped
    tokens = request.tokens_if_stripped if strips else request.tokens
    if _is_refused(request, step, tokens, spent):
        return _stopped(request, refused=1)
    if step.action == "divert" and house.student and _is_diverted(request, house):
        return _stopped(request, changed=1)
    return Estimate(
        requests=1,
        teacher_requests=int(request.teacher),
        teacher_tokens=request.tokens if request.teacher else 0,
        changed=int(strips),
        stopped_tokens=request.tokens - tokens if request.teacher else 0,
    )


def _stopped(request: Request, *, refused: int = 0, changed: int = 0) -> Estimate:
    teacher, tokens = int(request.teacher), request.tokens if request.teacher else 0
    return Estimate(
        requests=1, teacher_requests=teacher, teacher_tokens=tokens, refused=refused, changed=changed,
        stopped_requests=teacher, stopped_tokens=tokens, stopped_cost=request.cost if teacher else 0,
    )  # fmt: skip


def _is_refused(request: Request, step: Step, tokens: int, spent: dict[tuple[str, str], int]) -> bool:
    if step.action in ("verify", "suspend"):
        return True
    if step.action != "cap" or not request.teacher:
        return False
    day = request.account, request.time.date().isoformat()
    used = spent.get(day, 0)
    if used + tokens > (step.tokens_per_day or 0):
        return True
    spent[day] = used + tokens
    return False


def _is_diverted(request: Request, house: House) -> bool:
    reached = request.automatic or request.account in house.divert_named
    return request.teacher and reached and not request.embeds


def _requests(table: pa.Table) -> list[Request]:
    return [_request(row) for row in table.to_pylist()]


def _request(row: dict[str, Any]) -> Request:
    text = row["parameters"] or ""
    # Most requests ask for neither, and reading JSON is what takes time.
    told = json.loads(text) if '"logprobs"' in text or '"n"' in text or '"best_of"' in text else {}
    counts = [value for value in (told.get("n"), told.get("best_of")) if type(value) is int]
    logprobs = told.get("logprobs")
    return Request(
        row["account"],
        row["time"],
        row["model_role"] == "teacher",
        row["model_requested"] == "auto",
        row["endpoint"] == _NO_DIVERSION,
        (row["usage"] or {}).get("output_tokens") or 0,
        row["cost"] or 0,
        logprobs is not None and logprobs is not False,
        max([1, *counts]),
    )
