"""From states to scores: boosted trees on features, calibrated, and the severities that follow.

The score is the probability that an account harvests where one in two hundred does (`PREVALENCE`), calibrated on
accounts of types that the trees had not seen. Severities are bounds of the score that were frozen on benign
account-days. A use that operators granted makes harvesting `DECLARED` times less likely while it holds.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from detector import features, forest, rules
from detector.forest import Forest

Severity = Literal["none", "low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("none", "low", "medium", "high")
PREVALENCE = 0.005
# Nats for each e-fold of the month's requests. Trees tell no more from less beyond their outermost splits, where those
# who collect most are; what any collector needs is requests.
VOLUME = 0.5
DECLARED = 50.0
SHIPPED = Path(__file__).with_name("model.npz")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """What was fitted: trees, a calibration (log-odds = `slope` × `evidence` + `shift`), bounds, medians of peers.

    `bounds`: the scores from which low, medium and high begin; an alert is a score of medium. `medians`: of ordinary
    accounts, in the order of `features.NAMES`. `card`: what it was fitted on, in words and numbers.
    """

    trees: Forest
    slope: float
    shift: float
    bounds: tuple[float, float, float]
    medians: npt.NDArray[np.float32]
    card: Mapping[str, Any]

    @property
    def alert(self) -> float:
        """The score at which an alert is raised."""
        return self.bounds[1]

    def log_odds(self, values: npt.NDArray[np.float32]) -> Floats:
        """Return calibrated log-odds for rows of `features.matrix`, shape (rows,)."""
        return np.asarray(self.slope * evidence(self.trees, values) + self.shift)

    def scores_at(
        self, log_odds: Floats, values: npt.NDArray[np.float32], declared: npt.NDArray[np.bool_] | None = None
    ) -> Floats:
        """Return the scores of rows whose log-odds are known, or smoothed over looks (`sequential`)."""
        covered = np.zeros(len(values), bool) if declared is None else declared
        odds = log_odds - np.log(DECLARED) * covered
        floor = np.where(rules.broken(values).any(axis=1) & ~covered, self.alert, 0.0)
        return np.asarray(np.maximum(floor, 1.0 / (1.0 + np.exp(-odds))))

    def at(self, excess: float) -> float:
        """Return the score whose log odds exceed those of an alert by so much."""
        return float(1.0 / (1.0 + (1.0 / self.alert - 1.0) * np.exp(-excess)))

    def severity(self, score: float) -> Severity:
        """Return the severity of a score."""
        return SEVERITIES[sum(score >= bound for bound in self.bounds)]

    @functools.cached_property
    def id(self) -> str:
        """What the model is called where several are kept: the first twelve digits of its arrays' SHA-256."""
        found = hashlib.sha256()
        for name, value in sorted(self._parts().items()):
            found.update(f"{name} {value.dtype.str} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        return found.hexdigest()[:12]

    def to_bytes(self) -> bytes:
        """Return the model as an .npz file of plain arrays."""
        file = io.BytesIO()
        np.savez_compressed(file, **self._parts())  # type: ignore[arg-type]  # numpy's stub takes a flag for one of them
        return file.getvalue()

    def _parts(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "card": np.frombuffer(json.dumps(self.card).encode(), np.uint8),
            "numbers": np.array([self.slope, self.shift, *self.bounds]),
            "names": np.frombuffer(json.dumps(features.NAMES).encode(), np.uint8),
            "medians": self.medians,
            **self.trees.arrays("trees_"),
        }


def evidence(trees: Forest, values: npt.NDArray[np.float32]) -> Floats:
    """Return what speaks for harvesting before it is calibrated: the trees' log-odds and the volume, shape (rows,)."""
    requests = values[:, features.NAMES.index("requests_month")].astype(np.float64)
    return np.asarray(trees.log_odds(values) + VOLUME * requests)


def read(raw: bytes) -> Model:
    """Return the model that `Model.to_bytes` wrote; raises `ValueError` where it was fitted on other features."""
    with np.load(io.BytesIO(raw), allow_pickle=False) as found:
        if tuple(json.loads(found["names"].tobytes())) != features.NAMES:
            raise ValueError("the model was fitted on other features: `spiritsafe detector fit` makes a new one")
        slope, shift, low, medium, high = found["numbers"].tolist()
        trees = forest.from_arrays(found, "trees_")
        card = json.loads(found["card"].tobytes())
        return Model(trees, slope, shift, (low, medium, high), found["medians"], card)


@functools.cache
def shipped() -> Model:
    """Return the model that comes with the package."""
    return read(SHIPPED.read_bytes())
