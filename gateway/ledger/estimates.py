"""What a step would have done to the requests of a past week: a dry run, with the arithmetic spelt out.

A request is *stopped* where the teacher would not have answered it: it is refused, or a student answers. It is
*changed* where somebody still answers it, but not as it was asked: a student, or without log-probabilities or further
choices. The rules are those of admission, applied to what the lake has; imported and live rows count, made-up ones do
not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gateway.ledger import lake as lakes
from gateway.ledger.enforcement import ACTIONS, Step
from gateway.ledger.lake import Lake

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

PERIOD = timedelta(days=7)
NANO = 1_000_000_000
_COLUMNS = ["time", "account", "endpoint", "model_requested", "model_role", "usage", "cost", "parameters"]
_ANSWERED = [200, 499]
_DAY_MS = 86_400_000
_MOST_CHOICES = 10_000  # an imported row may say anything
_NO_DIVERSION = "embeddings"  # vectors of two models can't be compared, so no student answers there


@dataclass(frozen=True)
class Requests:
    """The answered requests of a period, oldest first, a column each; all of the same length.

    `names[account]` is whose it is, `time` is in milliseconds since 1970. `tokens` are the output's, `cost` is in
    nano-dollars, `choices` how many answers it asked for, `logprobs` whether it asked for log-probabilities.
    """

    names: list[str]
    account: Integers
    time: Integers
    teacher: Flags
    automatic: Flags
    embeds: Flags
    tokens: Integers
    cost: Integers
    logprobs: Flags
    choices: Integers

    def part(self, names: Collection[str], since: datetime, until: datetime) -> Requests:
        """Return the requests of some accounts in a shorter period."""
        wanted = np.array([name in names for name in self.names], bool)[self.account]
        first, end = (round(moment.timestamp() * 1000) for moment in (since, until))
        chosen = wanted & (self.time >= first) & (self.time < end)
        columns = [item.name for item in fields(self) if item.name != "names"]
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


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


def read(lake: Lake, names: Collection[str], since: datetime) -> Requests:
    """Return the answered requests of accounts since a moment."""
    chosen = pc.field("account").isin(pa.array(sorted(names), pa.string())) & lakes.since(since)
    chosen &= pc.field("status").isin(_ANSWERED) & (pc.field("origin") != "synthetic")
    return _requests(lake.read(columns=_COLUMNS, filter=chosen).sort_by("time"))


def estimate(requests: Requests, step: Step, house: House) -> dict[str, Estimate]:
    """Return, by account, what a step would have done to its requests."""
    teacher, tokens = requests.teacher, requests.tokens
    wide = requests.logprobs | (requests.choices > 1)
    stripped = wide if ACTIONS.index(step.action) >= ACTIONS.index("strip") else np.zeros_like(wide)
    # All choices of an answer are taken for equally long.
    kept = np.where(stripped, -(-tokens // requests.choices), tokens)
    refused = _refused(requests, step, kept)
    diverted = _diverted(requests, step, house)
    gone = refused | diverted
    changed = (diverted | stripped) & ~refused
    others = _others(requests, house)
    columns = {
        "requests": np.ones_like(tokens),
        "teacher_requests": teacher,
        "teacher_tokens": tokens * teacher,
        "refused": refused,
        "changed": changed,
        "stopped_requests": gone & teacher,
        "stopped_tokens": np.where(gone, tokens, tokens - kept) * teacher,
        "stopped_cost": requests.cost * (gone & teacher),
        "others_refused": refused & others,
        "others_changed": changed & others,
    }
    sums = {name: _by_account(requests, values) for name, values in columns.items()}
    found = {
        name: Estimate(**{of: values[at] for of, values in sums.items()}) for at, name in enumerate(requests.names)
    }
    return {name: one for name, one in found.items() if one.requests}


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Add estimates up."""
    return sum(estimates, Estimate())


def _refused(requests: Requests, step: Step, kept: Integers) -> Flags:
    if step.action in ("verify", "suspend"):
        return np.ones_like(requests.teacher)
    refused = np.zeros_like(requests.teacher)
    if step.action != "cap":
        return refused
    spent: dict[tuple[int, int], int] = {}
    places = np.flatnonzero(requests.teacher).tolist()
    for place, who, day, tokens in zip(
        places, *(column[places].tolist() for column in (requests.account, requests.time // _DAY_MS, kept)), strict=True
    ):
        used = spent.get((who, day), 0) + tokens
        if used > (step.tokens_per_day or 0):
            refused[place] = True
        else:
            spent[who, day] = used
    return refused


def _diverted(requests: Requests, step: Step, house: House) -> Flags:
    if step.action != "divert" or not house.student:
        return np.zeros_like(requests.teacher)
    named = np.array([name in house.divert_named for name in requests.names], bool)
    reached: Flags = requests.automatic | named[requests.account]
    found: Flags = requests.teacher & ~requests.embeds & reached
    return found


def _others(requests: Requests, house: House) -> Flags:
    if house.suspected is None:
        return np.zeros_like(requests.teacher)
    return np.array([name not in house.suspected for name in requests.names], bool)[requests.account]


def _by_account(requests: Requests, values: NDArray[Any]) -> list[int]:
    # Doubles hold whole numbers up to 2 ** 53, nine million dollars in nano-dollars.
    return [round(value) for value in np.bincount(requests.account, values, len(requests.names)).tolist()]


def _requests(table: pa.Table) -> Requests:
    table = table.combine_chunks()
    accounts = pc.dictionary_encode(table["account"].combine_chunks())
    logprobs, choices = _told(table["parameters"].to_pylist())
    return Requests(
        accounts.dictionary.to_pylist(),
        accounts.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        pc.cast(table["time"], pa.int64()).to_numpy(),
        _flags(table["model_role"], "teacher"),
        _flags(table["model_requested"], "auto"),
        _flags(table["endpoint"], _NO_DIVERSION),
        _integers(pc.struct_field(table["usage"], "output_tokens")),
        _integers(table["cost"]),
        logprobs,
        choices,
    )


def _told(parameters: list[str | None]) -> tuple[Flags, Integers]:
    """Return which requests asked for log-probabilities, and for how many answers."""
    logprobs, choices = np.zeros(len(parameters), bool), np.ones(len(parameters), np.int64)
    for place, text in enumerate(parameters):
        # Most ask for neither, and reading JSON is what takes time.
        if text is None or not ('"logprobs"' in text or '"n"' in text or '"best_of"' in text):
            continue
        told = json.loads(text)
        counts = [value for value in (told.get("n"), told.get("best_of")) if type(value) is int]
        choices[place] = min(max([1, *counts]), _MOST_CHOICES)
        logprobs[place] = told.get("logprobs") is not None and told["logprobs"] is not False
    return logprobs, choices


def _flags(column: pa.ChunkedArray, value: str) -> Flags:
    found: Flags = pc.fill_null(pc.equal(column, value), False).to_numpy()
    return found


def _integers(column: pa.ChunkedArray) -> Integers:
    found: Integers = pc.fill_null(column, 0).to_numpy()
    return found
