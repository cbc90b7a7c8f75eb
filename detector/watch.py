"""All accounts, brought forward together as the lake unrolls: the service and the replay run this very code.

What is said about an account depends on its own requests in event time (`checkpoints`) and, where it is linked, on
those of its set at the end of each day; never on how the rows were cut into rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from detector import explain, features, scoring, sets, verdicts
from detector.book import Book
from detector.checkpoints import LEAST, Follower
from detector.columns import Columns
from detector.explain import Reason
from detector.scoring import Model, Severity
from detector.sets import LinkedSet, Linker, NoLinks, Places
from detector.shadow import Shadow, opinion_of
from detector.sketch import States
from gateway.ledger.declared_uses import DeclaredUse

LOWERED = float(np.log(scoring.DECLARED))
PEERS = 2000  # accounts whose medians stand for the installation's
PEERS_HALF = 50.0  # with so many, their medians weigh as much as the shipped ones


@dataclass(frozen=True)
class Crossing:
    """The moment at which an account first scored an alert: `time` in seconds, and what had passed until then."""

    time: float
    requests: int
    live_requests: int
    teacher_tokens: int


@dataclass(frozen=True)
class Assessment:
    """What the detector says about an account at a moment; `score` is the present one, `peak` the highest so far."""

    account: str
    time: float
    score: float
    peak: float
    severity: Severity
    abstained: bool
    reasons: list[Reason] = field(default_factory=list)
    crossing: Crossing | None = None
    lowered_by: str | None = None  # the declared use that lowers the score
    set_id: str | None = None


class Watch:
    """Follows requests in event time. `uses`: declared uses by account, those that have ended included.

    `model` is in charge: what is said about accounts is its opinion, but for that of the one in the `shadow`.
    `canaries` are accounts of our own: nobody's peers, and in no linked set.
    """

    def __init__(
        self,
        minimum_requests: int = LEAST,
        uses: Mapping[str, list[DeclaredUse]] | None = None,
        model: Model | None = None,
        linker: Linker | None = None,
        shadow: Model | None = None,
    ) -> None:
        self.minimum_requests = max(minimum_requests, LEAST)
        self.uses: Mapping[str, list[DeclaredUse]] = uses or {}
        self.canaries: frozenset[str] = frozenset()
        self.model = model or scoring.shipped()
        self.shadow = None if shadow is None else Shadow(shadow, self.model.id)
        self.book = Book()
        self.linker: Linker = linker or NoLinks()
        self._follower = Follower(self._look, self._close_day, self.minimum_requests, self._take)
        self._end_of_day: Callable[[int], None] | None = None
        self._medians: npt.NDArray[np.float32] | None = None
        self._linked: dict[int, LinkedSet] = {}

    @property
    def day(self) -> int:
        """The day, since the epoch, that the newest request belongs to; -1 before there is one."""
        return self._follower.day

    def advance(self, rows: Columns, end_of_day: Callable[[int], None] | None = None) -> set[str]:
        """Take requests, oldest first, and return the accounts they touched.

        `end_of_day` is called with a day's number (since the epoch) when the first request of a later one comes.
        """
        self._end_of_day = end_of_day
        places = self.book.places(rows.names)
        at = places[rows.account] if len(rows) else np.zeros(0, np.int64)
        for day, part in self._follower.days(rows):
            self._follower.begin(self.book.states, day)
            chosen, mine = rows.take(part), at[part]
            self._show_linker(chosen, mine)
            self._follower.advance(self.book.states, chosen, mine)
        return {rows.names[place] for place in np.unique(rows.account)}

    def finish(self) -> None:
        """Close the newest day: there is nothing more to come."""
        self._follower.end_day(self.book.states)

    def forget(self, names: Sequence[str]) -> None:
        """Remove accounts with all that is kept of them."""
        if any(name in self.book for name in names):
            stay = self.book.forget(names)
            self.linker.keep(stay)
            if self.shadow is not None:
                self.shadow.keep(stay)
            self._linked = {}  # they speak of places that are others' now
            self.book.verdicts["set"], self.book.verdicts["set_score"] = 0, 0.0

    def last_seen(self, name: str) -> float:
        """Return the time of an account's newest request, in seconds; 0 where it has none."""
        return float(self.book.states["last"][self.book.place(name)])

    def begin_anew(self, name: str) -> None:
        """Forget all that is known of an account, as if its next request were its first; it keeps its place."""
        if self.shadow is not None:
            self.shadow.blank(self.book.place(name))
        self.book.blank(name)

    def resume(self, book: Book, day: int, links: bytes, charge: str = "", shadow: bytes = b"") -> None:
        """Go on from what a checkpoint kept: `charge` is the id of the model that was in charge then."""
        self.book = book
        self._follower.day = day
        self.linker.restore(links)
        before = verdicts.opinions(book.verdicts)
        if charge != self.model.id:
            self._hold(opinion_of(self.model.id, shadow))
        if self.shadow is not None and shadow:
            self.shadow.restore(shadow)
            if charge == self.shadow.model.id:
                self.shadow.hold(before)

    def succeed(self, model: Model, shadow: Model | None) -> None:
        """Put a model in charge and one, or none, in the shadow; each keeps the opinion that it has formed here."""
        known = {self.model.id: verdicts.opinions(self.book.verdicts)}
        if self.shadow is not None:
            # It may not have heard of the newest accounts.
            opinion = np.zeros(len(self.book), verdicts.OPINION)
            opinion[: len(self.shadow.opinions)] = self.shadow.opinions[: len(opinion)]
            known[self.shadow.model.id] = opinion
        if model.id != self.model.id:
            self.model, self._medians = model, None
            self._hold(known.get(model.id))
        self.shadow = None if shadow is None else Shadow(shadow, model.id)
        if self.shadow is not None and shadow is not None and shadow.id in known:
            self.shadow.hold(known[shadow.id])

    def assess(self, name: str, peak: float | None = None) -> Assessment:
        """Return what is to be said about an account now; with `peak`, the severity and reasons of that score."""
        place = self.book.place(name)
        state, verdict = self.book.states[place : place + 1], self.book.verdicts[place]
        abstained = bool(state["total"][0] < self.minimum_requests and not verdict["alert_time"])
        score = float(verdict["score"] if peak is None else peak)
        severity: Severity = "none" if abstained else self.model.severity(score)
        use = self._covering(state, name)
        reasons = [] if severity == "none" else self._reasons(state, name)
        return Assessment(
            name, float(state["last"][0]), score, float(verdict["peak"]), severity, abstained, reasons,
            _crossing(verdict), None if use is None else use.use, set_name(int(verdict["set"])),
        )  # fmt: skip

    def suspects(self) -> list[str]:
        """Return the accounts that scored an alert at some time."""
        return [self.book.names[place] for place in np.flatnonzero(self.book.verdicts["alert_time"] > 0)]

    def link(self) -> set[str]:
        """Find the linked sets anew and score their members by them; returns the accounts in sets that alert."""
        states, found = self.book.states, self.book.verdicts
        before = found["set"] > 0
        self._linked = {1 + int(each.members.min()): each for each in self.linker.sets(states, self.day)}
        found["set"] = 0
        for number, each in self._linked.items():
            found["set"][each.members] = number
        self._score_sets(self.model, found["set_score"])
        if self.shadow is not None:
            self._score_sets(self.shadow.model, self.shadow.set_scores(len(states)))
        # Who left a set is as before, and a set that gives less cause than it did says so.
        self._record(states, np.flatnonzero(before | (found["set"] > 0)))
        alerting = [each.members for each in self._linked.values() if each.excess >= 0]
        return {self.book.names[place] for members in alerting for place in members.tolist()}

    @property
    def linked(self) -> int:
        """How many linked sets there are."""
        return len(self._linked)

    def acting_with(self, name: str) -> LinkedSet | None:
        """Return the set that an account is linked into, where the set gives cause for an alert; else None."""
        found = self._linked.get(int(self.book.verdicts["set"][self.book.place(name)]))
        return found if found is not None and found.excess >= 0 else None

    def _take(self, rows: Columns, places: Places) -> None:
        self.book.note(rows, places)

    def _look(self, states: States, places: Places) -> None:
        covered, values = self._covered(states, places), features.matrix(states[places])
        verdicts.look(self.model, self.book.verdicts, places, values, covered)
        if self.shadow is not None:
            self.shadow.look(places, values, covered)
        self._record(states, places)

    def _record(self, states: States, places: Places) -> None:
        found = self.book.verdicts
        verdicts.record(self.model, found, places, states, found["live"])
        found["leaked"][places] = states["leaked"][places]
        if self.shadow is not None:
            self.shadow.record(places, states, found, self.model.alert)

    def _score_sets(self, model: Model, scores: npt.NDArray[np.float64]) -> None:
        scores[:] = 0.0
        for each in self._linked.values():
            score, lowered = model.at(each.excess), model.at(each.excess - LOWERED)
            scores[each.members] = np.where(self._covered(self.book.states, each.members), lowered, score)

    def _hold(self, opinion: verdicts.Verdicts | None) -> None:
        """Take up an opinion that the model in charge has formed; without one it looks as if for the first time.

        What alerts there were stays known.
        """
        if opinion is None:
            self.book.verdicts["looks"] = 0
            return
        own = np.zeros(len(self.book), verdicts.OPINION)
        own[: len(opinion)] = opinion[: len(own)]
        verdicts.hold(self.book.verdicts, own)

    def _show_linker(self, rows: Columns, places: Places) -> None:
        own = np.isin(places, self._canary_places())
        if own.any():
            rows, places = rows.take(~own), places[~own]
        self.linker.see(rows, places)

    def _canary_places(self) -> list[int]:
        return [self.book.place(name) for name in self.canaries if name in self.book]

    def _close_day(self, states: States, active: Places, day: int) -> None:
        self._medians = None
        self.link()
        if self._end_of_day is not None:
            self._end_of_day(day)
        self.book.verdicts["day_peak"] = 0.0
        if self.shadow is not None:
            self.shadow.close_day(active)

    def _covered(self, states: States, places: Places) -> npt.NDArray[np.bool_]:
        return np.array([self._covering(states[p : p + 1], self.book.names[p]) is not None for p in places], dtype=bool)

    def _covering(self, state: States, name: str) -> DeclaredUse | None:
        """Return the use that covers the account's present traffic: not ended, and kept to today."""
        known = self.uses.get(name)
        if not known:
            return None
        time, today = float(state["last"][0]), float(state["today"][0, 0])
        for use in known:
            in_time = use.until is None or use.until.timestamp() >= time
            if in_time and (use.cap_per_day is None or today <= use.cap_per_day):
                return use
        return None

    def _reasons(self, state: States, name: str) -> list[Reason]:
        peers = len(self.book) - len({self.book.place(name), *self._canary_places()})
        own = explain.reasons(self.model, state, self._peer_medians(), peers, self.uses.get(name, []))
        linked = self.acting_with(name)
        return own if linked is None else [sets.reason(linked), *own]

    def _peer_medians(self) -> npt.NDArray[np.float32]:
        """Return the medians of accounts that gave no cause for an alert, drawn towards the shipped ones."""
        if self._medians is None:
            ordinary = (self.book.states["total"] >= self.minimum_requests) & (self.book.verdicts["alert_time"] == 0)
            ordinary[self._canary_places()] = False
            places = np.flatnonzero(ordinary)[:PEERS]
            self._medians = self.model.medians
            if len(places):
                own = features.medians(features.matrix(self.book.states[places]), self.model.medians)
                weight = np.float32(len(places) / (len(places) + PEERS_HALF))
                self._medians = weight * own + (1 - weight) * self.model.medians
        return self._medians


def set_name(number: int) -> str | None:
    """Return a set's id as it is printed; None for 0, no set."""
    return f"set-{number:06d}" if number else None


def _crossing(verdict: Any) -> Crossing | None:
    if not verdict["alert_time"]:
        return None
    return Crossing(
        float(verdict["alert_time"]),
        int(verdict["alert_requests"]),
        int(verdict["alert_live"]),
        int(verdict["alert_tokens"]),
    )
