"""Do the books agree? Every request that was sent beside every record of it, and each difference by name.

A request ends in one of three good ways: answered, properly refused, or reset by a worker that was killed under it.
Whatever was answered or refused has exactly one record that says the same; what was reset has at most one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.rig.texts import PROMPT_TOKENS, WHOLE_TOKENS, WORDS

Asked = Literal["whole", "stream", "unknown"]  # "unknown" asks for a model that does not exist
# whole, stream: the whole answer; failed: a stream that ended with an error event; refused: a status and an error body;
# reset: the connection was lost; broken: against the contract; silent: nothing came to an end in time
Ending = Literal["whole", "stream", "failed", "refused", "reset", "broken", "silent"]

UNKNOWN_MODEL = (404, "model_not_found")
# What a backend that is killed or stalled may cost; any other refusal is one that nobody gave a reason for.
REFUSALS = frozenset(
    (
        *((502, code) for code in ("upstream_disconnected", "upstream_failed")),
        *((503, code) for code in ("no_healthy_backend", "backend_busy", "not_recorded")),
        (504, "upstream_timeout"),
    )
)
FAILURES = frozenset(code for _, code in REFUSALS)
NOT_RECORDED = "not_recorded"  # the refusal that says itself that there is no record
USAGE = {"whole": (PROMPT_TOKENS, WHOLE_TOKENS, "exact"), "stream": (PROMPT_TOKENS, WORDS, "exact")}
LATE_S = 5.0  # a client on a busy machine may hear of a lost connection that much later
CLOCK_S = 0.002  # records have times in whole milliseconds


@dataclass(slots=True)
class Sent:
    """A request and how it ended. Times are of the wall clock; `opening` and `opened` are its connection's."""

    id: str
    asked: Asked
    began: float
    ended: float = 0.0
    ending: Ending = "silent"
    status: int = 0
    code: str = ""
    port: int = 0  # the client's, of the connection
    opening: float = 0.0
    opened: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """What a traffic record says that can be compared; `request_id` is empty where it does not say."""

    request_id: str
    time: float
    status: int
    error: str
    usage: tuple[int, int, str] | None

    @property
    def interrupted(self) -> bool:
        """Whether its worker died under it."""
        return (self.status, self.error) == (0, "interrupted")


@dataclass(frozen=True)
class Death:
    """A worker that was killed or drained, from when to when; `ports` are the clients' that a kill found connected."""

    worker: str
    how: Literal["killed", "drained"]
    began: float
    ended: float
    ports: frozenset[int] = frozenset()

    def saw_the_end_of(self, sent: Sent) -> bool:
        """Did the request end while the worker died?"""
        return self.began <= sent.ended <= self.ended + LATE_S

    def explains(self, sent: Sent) -> bool:
        """Did a kill take this request's connection along, be it accepted or still waiting to be?"""
        was_opening = sent.opening <= self.ended and self.began <= sent.opened
        return self.how == "killed" and self.saw_the_end_of(sent) and (sent.port in self.ports or was_opening)


@dataclass
class Books:
    """The result: how requests ended, how many resets have which record, and every violation in words."""

    endings: Counter[str] = field(default_factory=Counter)
    resets: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    records: int = 0
    violations: list[str] = field(default_factory=list)


def reconcile(sent: Sequence[Sent], rows: Iterable[Row], deaths: Sequence[Death]) -> Books:
    """Compare what clients saw with what was recorded."""
    books = Books()
    known = {request.id: request for request in sent}
    found: defaultdict[str, list[Row]] = defaultdict(list)
    nameless: list[Row] = []
    for row in rows:
        books.records += 1
        if row.request_id in known:
            found[row.request_id].append(row)
        elif row.interrupted and not row.request_id:
            nameless.append(row)
        else:
            books.violations.append(f"a record of a request that was never sent: {row}")
    _give_to_resets(sent, nameless, found, books)
    for request in sent:
        books.endings[request.ending] += 1
        if request.ending in ("refused", "failed"):
            books.refusals[f"{request.ending} {request.status} {request.code}"] += 1
        books.violations += [f"{request.id}: {words}" for words in _judge(request, found[request.id], deaths, books)]
    return books


def _give_to_resets(
    sent: Sequence[Sent], nameless: list[Row], found: defaultdict[str, list[Row]], books: Books
) -> None:
    """Give each interrupted record that lacks its request's name to a reset request that was under way at its time.

    Records in the order of time, each to the open request that ended first: so as many as possible find theirs.
    """
    waiting = sorted(
        (request for request in sent if request.ending == "reset" and request.id not in found),
        key=lambda request: request.ended,
    )
    for row in sorted(nameless, key=lambda row: row.time):
        fitting = (one for one in waiting if one.began - CLOCK_S <= row.time <= one.ended + CLOCK_S)
        request = next(fitting, None)
        if request is None:
            books.violations.append(f"an interrupted record without a reset request: {row}")
        else:
            waiting.remove(request)
            found[request.id].append(row)


def _judge(request: Sent, rows: list[Row], deaths: Sequence[Death], books: Books) -> list[str]:
    if len(rows) > 1:
        return [f"{len(rows)} records: {rows}"]
    if request.ending == "reset":
        return _judge_reset(request, rows, deaths, books)
    if request.ending in ("broken", "silent"):
        return [f"{request.ending}: {request.status} {request.detail}"]
    if request.ending == "refused" and request.code == NOT_RECORDED:
        return []
    if not rows:
        return [f"no record of an answer that was {request.ending} ({request.status} {request.code})"]
    return [*_judge_ending(request), *_judge_row(request, rows[0])]


def _judge_reset(request: Sent, rows: list[Row], deaths: Sequence[Death], books: Books) -> list[str]:
    row = rows[0] if rows else None
    books.resets["no record" if row is None else "interrupted" if row.interrupted else f"recorded {row.status}"] += 1
    if not any(death.explains(request) for death in deaths):
        meanwhile = [f"{death.worker} was {death.how} meanwhile" for death in deaths if death.saw_the_end_of(request)]
        return [f"reset by no kill ({request.detail}){', '.join(['', *meanwhile])}"]
    # Its record may have been written in the moment before the kill.
    if row is None or row.interrupted or row.status == 200 or (row.status, row.error) in REFUSALS | {UNKNOWN_MODEL}:
        return []
    return [f"reset by a kill, and recorded as {row.status} {row.error}"]


def _judge_ending(request: Sent) -> list[str]:
    if request.ending == "failed" and request.code not in FAILURES:
        return [f"a stream that failed without a reason: {request.code}"]
    if request.ending == "refused":
        expected = request.asked == "unknown" and (request.status, request.code) == UNKNOWN_MODEL
        if not expected and (request.status, request.code) not in REFUSALS:
            return [f"refused without a reason: {request.status} {request.code}"]
    elif request.asked == "unknown":
        return ["a model that does not exist has answered"]
    return []


def _judge_row(request: Sent, row: Row) -> list[str]:
    """Does the record say what the client saw?"""
    said = (row.status, row.error)
    if said != (request.status, request.code):
        return [f"ended {request.ending} {request.status} {request.code}, recorded as {said}"]
    wanted = USAGE.get(request.ending)
    if wanted is not None and row.usage != wanted:
        return [f"usage {row.usage} instead of {wanted}"]
    return []
