"""The protocol's table of targets, filled with a run's figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from detector.evaluation.figures import Figure
from detector.evaluation.results import Results

Verdict = Literal["aim", "ship", "missed", "not measured"]
NONE = float("nan")


@dataclass(frozen=True)
class Target:
    """A metric with what it must reach to ship and what it aims at; `more`: higher is better."""

    metric: str
    figure: Figure
    ship: float
    aim: float
    more: bool = True
    most: float = float("inf")  # for what must not be too high either

    @property
    def verdict(self) -> Verdict:
        """How far it is reached, by the value itself."""
        value = self.figure.value
        if np.isnan(value):
            return "not measured"
        if self._reaches(value, self.aim):
            return "aim"
        return "ship" if self._reaches(value, self.ship) else "missed"

    def _reaches(self, value: float, bound: float) -> bool:
        return not np.isnan(bound) and (bound <= value <= self.most if self.more else value <= bound)


def targets(results: Results) -> list[Target]:
    """Return the targets of detection, in the order of the protocol."""
    split, shipped = results.split("leave-attack-type-out"), results.shipped()
    naive, worst = _naive_days(results), shipped.worst_look_alike()
    rows = [
        Target("account PR-AUC at 0.5 % prevalence, leave-attack-type-out", split.pr_auc[0.005], 0.50, 0.80),
        Target("account-days found at 0.1 % FPR, leave-attack-type-out", split.detected[0.001], 0.40, 0.70),
        Target("account-days found at 1 % FPR, leave-attack-type-out", split.detected[0.01], 0.70, 0.90),
        Target("… of naive strategies (A1, A3, A6, A7), at 1 % FPR", naive, NONE, 0.98),
        Target("leaked before the first alert, naive: requests, median", shipped.naive.requests, 500, 100, more=False),
        Target("leaked before the first alert, naive: output tokens", shipped.naive.tokens, NONE, 50_000, more=False),
        Target("leaked, hard (A8, A10, A11): requests, median", shipped.hard.requests, 5_000, 800, more=False),
        Target("hydra: members found by day 2", shipped.hydra.found[2], NONE, 0.50),
        Target("hydra: members found by day 5", shipped.hydra.found[5], NONE, 0.90),
        Target("hydra: members found by day 14", shipped.hydra.found[14], 0.60, 0.90),
        Target("hydra: share of the campaign leaked", shipped.hydra.leaked, NONE, 0.15, more=False),
        Target("false alerts per 1,000 benign account-days", shipped.false_alerts, 3.0, 0.5, more=False),
        Target(f"worst look-alike ({worst[0]}): share flagged", worst[1], 0.10, 0.02, more=False),
    ]
    if results.hydras is not None:
        hydras = results.hydras
        rows += [
            Target("hydra: purity of its sets on day 5", hydras.by_day[5].purity, NONE, 0.95),
            Target("false sets in the month", hydras.false_sets, NONE, 1.0, more=False),
        ]
    if results.calibration is not None:
        rows += [
            Target("calibration: Brier skill at 0.5 %", results.calibration.brier_skill, 1e-9, NONE),
            Target("calibration: slope (aim 0.8–1.25)", results.calibration.slope, NONE, 0.8, most=1.25),
            Target("calibration: precision at “high”", results.calibration.precision_at_high, NONE, 0.8),
        ]
    if results.cost is not None:
        cost = results.cost
        rows += [
            Target(
                "replay of 1 M requests, CPU s (60 s on two cores)",
                _plain(cost.microseconds_a_request),
                NONE,
                120,
                more=False,
            ),
            Target("state of an account: bytes", _plain(cost.bytes_an_account), NONE, 2048, more=False),
        ]
    return rows


def _plain(value: float) -> Figure:
    return Figure(value, NONE, NONE)


def _naive_days(results: Results) -> Figure:
    folds = results.split("leave-attack-type-out").detected_by_fold
    chosen = [folds[code][0.01] for code in ("A1", "A3", "A6", "A7") if code in folds]
    if not chosen:
        return _plain(NONE)
    # The ends are means as well: wider than the mean's own interval, since the four vary apart.
    return Figure(*(float(np.nanmean([getattr(one, end) for one in chosen])) for end in ("value", "low", "high")))
