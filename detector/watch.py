"""All accounts, brought forward together as the lake unrolls: the service and the replay run this very code.

What is said about an account depends on its own requests in event time and, once a week of event time, on who its
peers are; never on how the rows were cut into rounds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from detector import explain, reference
from detector.account import Account
from detector.explain import Reason
from detector.features import FEATURES, features_of, frame, recent, row_of
from detector.observations import Observation
from detector.scoring import ALERT, Severity, Standing, score_of, severity_of
from detector.windows import DAY, HOUR_S, INDEX
from gateway.ledger.declared_uses import DeclaredUse

DAY_S = DAY * HOUR_S
WORTH_STANDING = 0.3  # below this level of evidence peers and isolation could not lift an account to an alert
STANDING_EVERY, STANDING_OF_SUSPECT_EVERY = 25, 250  # requests
MOST_PEERS = 2000


@dataclass(frozen=True)
class Crossing:
    """The moment at which an account first scored one half: `time` in seconds, and what had passed until then."""

    time: float
    requests: int
    live_requests: int
    teacher_tokens: int


@dataclass
class Tracked:
    """An account with what was concluded about it so far."""

    account: Account
    standing: float = 0.0
    standing_at: int = -STANDING_EVERY  # the request at which it was looked at last
    score: float = 0.0
    peak: float = 0.0
    day_peak: float = 0.0
    crossing: Crossing | None = None


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
    lowered_by: str | None = None  # the declared use that lowers the severity


class Watch:
    """Follows observations in event time. `uses`: declared uses in force, by account."""

    def __init__(self, minimum_requests: int = 30, uses: Mapping[str, list[DeclaredUse]] | None = None) -> None:
        self.minimum_requests = minimum_requests
        self.uses: Mapping[str, list[DeclaredUse]] = uses or {}
        self.tracked: dict[str, Tracked] = {}
        self.day = -1
        self._peers: list[pd.DataFrame] = []
        self._pool: pd.DataFrame | None = None
        self._standing: Standing | None = None

    def advance(self, seen: Iterable[Observation], end_of_day: Callable[[int], None] | None = None) -> set[str]:
        """Take observations, oldest first, and return the accounts they touched.

        `end_of_day` is called with a day's number (since the epoch) when the first request of a later one comes.
        """
        touched = set()
        for observation in seen:
            day = int(observation.time // DAY_S)
            if day > self.day:
                if end_of_day is not None and self.day >= 0:
                    end_of_day(self.day)
                self._begin_day(day)
            self._take(observation)
            touched.add(observation.account)
        return touched

    def assess(self, name: str, peak: float | None = None) -> Assessment:
        """Return what is to be said about an account now; with `peak`, the severity and reasons of that score."""
        tracked = self.tracked[name]
        account = tracked.account
        known = account.requests_in_memory(account.last_seen)
        abstained = known < self.minimum_requests and tracked.crossing is None
        score = tracked.score if peak is None else peak
        use = self._use_in_force(tracked) if score >= ALERT else None
        severity: Severity = "none" if abstained else severity_of(score, lowered=use is not None)
        reasons = [] if severity == "none" else self._reasons(tracked)
        return Assessment(
            name, account.last_seen, score, tracked.peak, severity, abstained, reasons, tracked.crossing, use
        )

    def suspects(self) -> list[str]:
        """Return the accounts that scored one half at some time."""
        return [name for name, tracked in self.tracked.items() if tracked.crossing is not None]

    def features(self) -> pd.DataFrame:
        """Return every account's present row of `features.COLUMNS`."""
        return frame(row_of(tracked.account, tracked.account.last_seen) for tracked in self.tracked.values())

    def _take(self, observation: Observation) -> None:
        tracked = self.tracked.get(observation.account)
        if tracked is None:
            tracked = self.tracked[observation.account] = Tracked(Account(observation.account))
        account = tracked.account
        account.observe(observation)
        level = account.cusum.level
        every = STANDING_EVERY if tracked.crossing is None else STANDING_OF_SUSPECT_EVERY
        if level >= WORTH_STANDING and account.totals.requests - tracked.standing_at >= every:
            tracked.standing = self._standing_of(account, observation.time)
            tracked.standing_at = account.totals.requests
        tracked.score = score_of(level, tracked.standing if level >= WORTH_STANDING else 0.0)
        tracked.peak = max(tracked.peak, tracked.score)
        tracked.day_peak = max(tracked.day_peak, tracked.score)
        if tracked.score < ALERT or tracked.crossing is not None:
            return
        if account.requests_in_memory(observation.time) >= self.minimum_requests:
            totals = account.totals
            tracked.crossing = Crossing(observation.time, totals.requests, totals.live_requests, totals.teacher_tokens)

    def _begin_day(self, day: int) -> None:
        # The day's windows of the accounts that gave no cause for an alert are the next week's peers.
        rows = [
            row_of(tracked.account, tracked.account.last_seen)
            for tracked in self.tracked.values()
            if tracked.crossing is None
            and int(tracked.account.last_seen // DAY_S) == self.day
            and tracked.account.totals.requests >= self.minimum_requests
        ]
        if rows:
            self._peers = [*self._peers, frame(rows)][-28:]
        for tracked in self.tracked.values():
            tracked.day_peak = 0.0
        if day // 7 > self.day // 7:
            self._pool = pd.concat([reference.ordinary(), *self._peers], ignore_index=True) if self._peers else None
            self._standing = None
        self.day = day

    def _standing_of(self, account: Account, time: float) -> float:
        model = self._model()
        return float(model.decision_function(frame([row_of(account, time)]))[0])

    def _model(self) -> Standing:
        if self._standing is None:
            self._standing = _among_reference() if self._pool is None else Standing().fit(self._pool.tail(MOST_PEERS))
        return self._standing

    def _use_in_force(self, tracked: Tracked) -> str | None:
        account = tracked.account
        requests = account.windows.total(account.last_seen, DAY)[INDEX["requests"]]
        for use in self.uses.get(account.name, []):
            if use.cap_per_day is None or requests <= use.cap_per_day:
                return use.use
        return None

    def _reasons(self, tracked: Tracked) -> list[Reason]:
        account = tracked.account
        sums, window = recent(account, account.last_seen)
        past = account.windows.before_day(account.last_seen)
        peers = self._model().peers_.centre(frame([row_of(account, account.last_seen)]))[0]
        comparison = explain.Comparison(
            sums=sums,
            window=window,
            now=features_of(sums),
            past=features_of(past) if past[INDEX["answered"]] >= self.minimum_requests else None,
            peers=dict(zip(FEATURES, peers.tolist(), strict=True)),
            peer_accounts=len({name for rows in self._peers for name in rows["account"]} - {account.name}),
        )
        return explain.reasons(account, comparison, self.uses.get(account.name, []))


@functools.cache
def _among_reference() -> Standing:
    return Standing().fit(reference.ordinary())
