"""How much more likely a pair's statistics are in one campaign than in an ordinary group or by chance.

A pair is of one of three kinds: members of one campaign, of one ordinary group (a company, a class), or strangers. Each
channel's statistics are cut into bins and weighed by multinomial logistic regression over balanced kinds, so that a
channel's logits are log-likelihoods but for a constant; channels add up. What is missing weighs nothing.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from detector.links.channels import CHANNELS, STATISTICS, Floats

KINDS = ("strangers", "group", "campaign")
STRANGERS, GROUP, CAMPAIGN = range(3)
PRIORS = (0.94, 0.05, 0.01)  # of the kinds among pairs that are worth comparing
BINS = 8
HIDING = 0.1  # of campaigns differ in a channel as strangers do, on purpose: what is not shared says little against
MOST = 6.0  # nats: no single channel says more than this, whatever it was seen to do in simulation
SHIPPED = Path(__file__).parent / "likelihood.json"


class PairLikelihood(BaseEstimator):  # type: ignore[misc]
    """Weighs pairs. `regularization`: the inverse of C of the logistic regressions.

    Learned: `edges_`, the borders of each statistic's bins, and `weights_`, for each channel an array of shape
    (statistics × bins, kinds).
    """

    def __init__(self, regularization: float = 1e-3) -> None:
        self.regularization = regularization

    def fit(self, statistics: Floats, kinds: npt.NDArray[np.int64], weight: Floats | None = None) -> Self:
        """Learn from pairs, shape (pairs, statistics), of known kinds; `weight` is brought to balance the kinds."""
        given = np.ones(len(kinds)) if weight is None else weight
        totals = np.bincount(kinds, given, len(KINDS))
        balanced = given / totals[kinds] * len(kinds) / len(KINDS)
        self.edges_ = {name: _edges(statistics[:, place], kinds) for place, name in enumerate(STATISTICS)}
        self.weights_ = {
            channel: self._weigh(_binned(statistics, self.edges_, names), kinds, balanced)
            for channel, names in CHANNELS.items()
        }
        return self

    def logits(self, statistics: Floats) -> Floats:
        """Return each channel's log-likelihood of each kind less that of strangers, shape (pairs, channels, kinds)."""
        check_is_fitted(self, "weights_")
        found = np.zeros((len(statistics), len(CHANNELS), len(KINDS)))
        for place, (channel, names) in enumerate(CHANNELS.items()):
            said = _binned(statistics, self.edges_, names) @ self.weights_[channel]
            found[:, place] = np.clip(said - said[:, :1], -MOST, MOST)
        found[:, :, CAMPAIGN] = np.log((1 - HIDING) * np.exp(found[:, :, CAMPAIGN]) + HIDING)
        return found

    def _weigh(self, binned: Floats, kinds: npt.NDArray[np.int64], weight: Floats) -> Floats:
        model = LogisticRegression(C=1 / self.regularization / len(kinds), fit_intercept=False, max_iter=200)
        model.fit(binned, kinds, sample_weight=weight)
        return np.asarray(model.coef_.T, dtype=np.float64)


def log_odds(logits: Floats, without: Collection[str] = ()) -> Floats:
    """Return the log odds of one campaign against the other kinds, from all channels but those `without`; (pairs,)."""
    kept = [place for place, name in enumerate(CHANNELS) if name not in without]
    total = logits[:, kept].sum(axis=1) + np.log(PRIORS)
    return np.asarray(total[:, CAMPAIGN] - np.logaddexp(total[:, STRANGERS], total[:, GROUP]))


@functools.cache
def shipped() -> PairLikelihood:
    """Return the likelihoods that were learned from simulated months (see `likelihood.json`)."""
    held: dict[str, Any] = json.loads(SHIPPED.read_text())
    found = PairLikelihood()
    found.edges_ = {name: np.array(held["edges"][name]) for name in STATISTICS}
    found.weights_ = {name: np.array(held["weights"][name]) for name in CHANNELS}
    return found


def document(fitted: PairLikelihood) -> dict[str, Any]:
    """Return what was learned as `likelihood.json` has it."""
    return {
        "edges": {name: np.round(edges, 4).tolist() for name, edges in fitted.edges_.items()},
        "weights": {name: np.round(held, 3).tolist() for name, held in fitted.weights_.items()},
    }


def _edges(values: Floats, kinds: npt.NDArray[np.int64]) -> Floats:
    # Quantiles of each kind alike, or the many strangers would leave the others one bin.
    told = [values[(kinds == kind) & ~np.isnan(values)] for kind in range(len(KINDS))]
    shares = np.linspace(0, 1, BINS + 1)[1:-1]
    cuts = [np.quantile(part, shares) for part in told if len(part)]
    if not cuts:
        return np.zeros(0)
    return np.unique(np.quantile(np.concatenate(cuts), shares))


def _binned(statistics: Floats, edges: dict[str, Floats], names: tuple[str, ...]) -> Floats:
    found = np.zeros((len(statistics), len(names) * BINS))
    for number, name in enumerate(names):
        values = statistics[:, STATISTICS.index(name)]
        told = np.flatnonzero(~np.isnan(values))
        found[told, number * BINS + np.searchsorted(edges[name], values[told])] = 1.0
    return found
