"""What an operator would live through: alerts of accounts that were held out, what leaked before them, whom they hit.

Every campaign is judged by the fit that did not see its strategy, every look-alike by one that did not see its type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.evaluation.figures import Bools, Figure, Floats, interval, weighted_median
from detector.evaluation.measuring import Judged, Table, account_rate
from detector.fitting import PRECISION_OF_HIGH
from detector.sketch import DAY_S

NAIVE, HARD = ("A1", "A3", "A6", "A7"), ("A8", "A10", "A11")
HYDRA_MEMBERS, HYDRA_RATE = 20, 25.0  # a hydra: at least so many accounts at so many requests a day each
FOUND_BY = (2, 5, 14)  # days
HIGH = PRECISION_OF_HIGH  # the score of high severity
SIZES = ((30, 100), (100, 300), (300, 1_000), (1_000, 10**9))  # requests


@dataclass(frozen=True)
class HeldOut:
    """What was said of each account by a fit that had not seen its type, shape (accounts,).

    `alert`: requests that had passed at the first alert of at least medium severity, -1: none; `peak`: highest score.
    """

    alert: npt.NDArray[np.int64]
    peak: Floats


@dataclass(frozen=True)
class Leak:
    """What campaigns got before their first alert, medians over campaigns; infinite where most were never noticed."""

    requests: Figure
    tokens: Figure
    alerted: Figure  # share of campaigns
    campaigns: int


@dataclass(frozen=True)
class Hydra:
    """Members found within days of a campaign's first request, and the share of its answers that had leaked by then."""

    found: dict[int, Figure]
    leaked: Figure
    campaigns: int


def held_out(by_attack: Sequence[Judged], by_benign: Sequence[Judged], table: Table, rate: float | None) -> HeldOut:
    """Put the folds together: alerts as shipped (`rate` None), or those of the threshold frozen at a rate."""
    alert = np.full(len(table.plans), -1)
    peak = np.full(len(table.plans), np.nan)
    for folds, kind in ((by_attack, table.attack), (by_benign, ~table.attack)):
        for judged in folds:
            mine = kind & (table.code == judged.fold.name)
            peak[mine] = judged.account_scores[mine]
            if rate is None and judged.alerts is not None:
                alert[mine] = judged.alerts[mine]
            else:
                for row in np.flatnonzero(mine):
                    alert[row] = _end_of_first_day(judged, int(row), rate or 0.01, table)
    return HeldOut(alert, peak)


def _end_of_first_day(judged: Judged, row: int, rate: float, table: Table) -> int:
    above = np.flatnonzero(judged.scores[row] > judged.thresholds[rate])
    if len(above) == 0:
        return -1
    return int((table.readings[row].days <= above[0]).sum())


class Campaigns:
    """The campaigns of a table with what leaked of each, arrays of shape (campaigns,)."""

    def __init__(self, table: Table, found: HeldOut) -> None:
        self.table = table
        groups = sorted(set(table.group[table.attack].tolist()))
        self.rows = [np.flatnonzero(table.group == group) for group in groups]
        self.code = np.array([table.code[rows[0]] for rows in self.rows])
        self.first_row = np.array([rows[0] for rows in self.rows])
        leaks = [self._leak(rows, found) for rows in self.rows]
        self.requests, self.tokens, self.alerted = (
            np.array(column, dtype=np.float64) for column in zip(*leaks, strict=True)
        )

    def leak(self, codes: Sequence[str]) -> Leak:
        """Return what campaigns of these strategies got before their first alert."""
        chosen = np.isin(self.code, list(codes))
        return Leak(
            self._figure(chosen, lambda weights: weighted_median(self._until_alert(self.requests), weights)),
            self._figure(chosen, lambda weights: weighted_median(self._until_alert(self.tokens), weights)),
            self._mean(chosen, self.alerted),
            int(chosen.sum()),
        )

    def points(self) -> dict[str, list[tuple[float, bool]]]:
        """Return, by strategy, what each campaign got before its first alert, and whether one came."""
        rows = zip(self.code.tolist(), self.requests.tolist(), (self.alerted > 0).tolist(), strict=True)
        found: dict[str, list[tuple[float, bool]]] = {code: [] for code in sorted(set(self.code), key=_number)}
        for code, requests, alerted in rows:
            found[code].append((requests, alerted))
        return found

    def _until_alert(self, got: Floats) -> Floats:
        return np.where(self.alerted > 0, got, np.inf)

    def hydra(self, found: HeldOut) -> Hydra:
        """Return how much of the large sets was found, and how soon."""
        large = np.array([self._is_hydra(rows) for rows in self.rows])
        shares = {day: np.array([self._found(rows, found, day) for rows in self.rows]) for day in FOUND_BY}
        leaked = np.array([self._leaked_share(rows, found) for rows in self.rows])
        found_by = {day: self._mean(large, share) for day, share in shares.items()}
        return Hydra(found_by, self._mean(large, leaked), int(large.sum()))

    def _mean(self, chosen: Bools, values: Floats) -> Figure:
        return self._figure(chosen, lambda weights: float((weights * values).sum() / weights.sum()))

    def _figure(self, chosen: Bools, measure: Callable[[Floats], float]) -> Figure:
        resampling = self.table.resampling
        values = []
        for counts in resampling.counts:
            weights = chosen * counts[resampling.of_row[self.first_row]]
            values.append(measure(weights) if weights.sum() > 0 else float("nan"))
        return interval(np.array(values))

    def _leak(self, rows: npt.NDArray[np.int64], found: HeldOut) -> tuple[float, float, float]:
        readings = [self.table.readings[row] for row in rows]
        moments = [
            reading.times[alert - 1] for reading, alert in zip(readings, found.alert[rows], strict=True) if alert > 0
        ]
        first = min(moments, default=float("inf"))
        before = [reading.harvest & (reading.times <= first) for reading in readings]
        requests = sum(int(mask.sum()) for mask in before)
        tokens = sum(int(reading.tokens[mask].sum()) for reading, mask in zip(readings, before, strict=True))
        return requests, tokens, float(bool(moments))

    def _is_hydra(self, rows: npt.NDArray[np.int64]) -> bool:
        if len(rows) < HYDRA_MEMBERS:
            return False
        readings = [self.table.readings[row] for row in rows]
        rates = [len(reading.times) / max(1, len(np.unique(reading.days))) for reading in readings]
        return float(np.median(rates)) >= HYDRA_RATE

    def _found(self, rows: npt.NDArray[np.int64], found: HeldOut, day: int) -> float:
        readings = [self.table.readings[row] for row in rows]
        begin = min(reading.times[0] for reading in readings)
        hits = [alert > 0 and reading.times[alert - 1] <= begin + day * DAY_S
                for reading, alert in zip(readings, found.alert[rows], strict=True)]  # fmt: skip
        return float(np.mean(hits))

    def _leaked_share(self, rows: npt.NDArray[np.int64], found: HeldOut) -> float:
        got = total = 0
        for row in rows:
            harvest, alert = self.table.readings[row].harvest, found.alert[row]
            got += int(harvest.sum() if alert < 0 else harvest[:alert].sum())
            total += int(harvest.sum())
        return got / max(1, total)


def _number(code: str) -> int:
    return int(code[1:])


def look_alikes(table: Table, found: HeldOut) -> dict[str, tuple[Figure, int]]:
    """Return the share of each look-alike's judged accounts that was flagged, and how many there were.

    Undeclared accounts of types that declare are apart, as “B4 undeclared”.
    """
    judged = table.judged.any(axis=1) & ~table.attack
    declares = {plan.code for plan in table.plans if plan.declared is not None}
    undeclared = np.array([plan.code in declares and plan.declared is None for plan in table.plans])
    names = np.char.add(table.code.astype("U24"), np.where(undeclared, " undeclared", ""))
    rows = {}
    for name in sorted(set(names[judged].tolist()), key=lambda each: (int(each[1:].split()[0]), each)):
        chosen = judged & (names == name)
        rows[name] = account_rate(table, chosen, found.alert > 0), int(chosen.sum())
    return rows


def false_alerts(table: Table, found: HeldOut) -> Figure:
    """Return false alerts per 1,000 benign account-days; days without a request are not counted as days."""
    active = np.array([len(np.unique(reading.days)) for reading in table.readings]) * ~table.attack
    alerts = (found.alert > 0) & ~table.attack
    return table.resampling.figure(lambda many: float(1000 * (alerts * many).sum() / max(1e-9, (active * many).sum())))


def by_size(table: Table, found: HeldOut) -> dict[str, tuple[Figure, int]]:
    """Return the share of benign accounts flagged by how many requests they sent."""
    rows = {}
    for least, most in SIZES:
        chosen = ~table.attack & table.judged.any(axis=1) & (table.requests >= least) & (table.requests < most)
        name = f"{least:,}–{most - 1:,}" if most < 10**9 else f"{least:,} and more"
        rows[name] = account_rate(table, chosen, found.alert > 0), int(chosen.sum())
    return rows


def by_language(table: Table, found: HeldOut) -> dict[str, tuple[Figure, int]]:
    """Return the share of benign accounts flagged by the language of their corpus."""
    rows = {}
    for language in sorted(set(table.language.tolist())):
        chosen = ~table.attack & table.judged.any(axis=1) & (table.language == language)
        rows[language] = account_rate(table, chosen, found.alert > 0), int(chosen.sum())
    return rows


def abstained(table: Table) -> dict[str, float]:
    """Return the share of accounts and of campaigns that nothing can be said about: too few requests."""
    known = np.asarray(table.judged.any(axis=1))
    groups = set(table.group[table.attack].tolist())
    seen = set(table.group[table.attack & known].tolist())
    return {
        "benign accounts": float(1 - known[~table.attack].mean()),
        "accounts of campaigns": float(1 - known[table.attack].mean()),
        "campaigns, all members": 1 - len(seen) / max(1, len(groups)),
    }
