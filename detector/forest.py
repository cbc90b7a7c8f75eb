"""Boosted trees as plain arrays: shipped without pickle, evaluated with numpy alone.

A forest of T trees of at most N nodes each is six arrays of shape (T, N); a leaf points at itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

AT_ONCE = 1024  # rows, so that what is worked on stays in a core's cache
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Forest:
    """Trees whose values add up to log-odds; a missing value goes `missing_left` or not."""

    baseline: float
    depth: int
    feature: npt.NDArray[np.int16]
    threshold: npt.NDArray[np.float32]
    missing_left: npt.NDArray[np.bool_]
    left: npt.NDArray[np.int16]
    right: npt.NDArray[np.int16]
    value: npt.NDArray[np.float32]

    def log_odds(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the sum of the trees' values for rows of features, shape (rows,)."""
        found = np.empty(len(values))
        for begin in range(0, len(values), AT_ONCE):
            found[begin : begin + AT_ONCE] = self._sum(values[begin : begin + AT_ONCE])
        return found

    def _sum(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        count, nodes = self.feature.shape
        first = np.arange(count) * nodes  # trees lie one after the other
        feature, threshold = self.feature.ravel(), self.threshold.ravel()
        missing_left, left, right = self.missing_left.ravel(), self.left.ravel(), self.right.ravel()
        rows = np.arange(len(values))[:, None]
        at = np.broadcast_to(first, (len(values), count))
        for _level in range(self.depth):
            shown = values[rows, feature[at]]
            goes_left = (shown <= threshold[at]) | (np.isnan(shown) & missing_left[at])
            at = first + np.where(goes_left, left[at], right[at])
        return np.asarray(self.baseline + self.value.ravel()[at].sum(axis=1, dtype=np.float64))

    def arrays(self, prefix: str) -> Arrays:
        """Return the forest as named arrays."""
        return {f"{prefix}{name}": np.asarray(value) for name, value in vars(self).items()}


def from_arrays(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> Forest:
    """Return the forest that `Forest.arrays` named."""
    names = Forest.__dataclass_fields__
    found = {name: arrays[f"{prefix}{name}"] for name in names}
    return Forest(float(found.pop("baseline")), int(found.pop("depth")), **found)


def from_boosters(boosters: Sequence[Any], edges: Sequence[npt.NDArray[np.float32]] | None = None) -> Forest:
    """Average fitted `HistGradientBoostingClassifier`s into one forest, whose log-odds are their mean.

    Where they were fitted on places among each feature's `edges`, a split after the k-th place is one at the k-th edge.
    """
    trees = [tree for booster in boosters for (tree,) in booster._predictors]
    nodes = max(len(tree.nodes) for tree in trees)
    shape = (len(trees), nodes)
    kinds = {"feature": np.int16, "threshold": np.float32, "missing_left": np.bool_, "left": np.int16,
             "right": np.int16, "value": np.float32}  # fmt: skip
    made: Arrays = {name: np.zeros(shape, kind) for name, kind in kinds.items()}
    for row, tree in enumerate(trees):
        found, size = tree.nodes, len(tree.nodes)
        leaf, own = found["is_leaf"].astype(bool), np.arange(size)
        made["feature"][row, :size] = np.where(leaf, 0, found["feature_idx"])
        made["threshold"][row, :size] = [_threshold(node, edges) for node in found]
        made["missing_left"][row, :size] = found["missing_go_to_left"]
        made["left"][row, :size] = np.where(leaf, own, found["left"])
        made["right"][row, :size] = np.where(leaf, own, found["right"])
        made["value"][row, :size] = np.where(leaf, found["value"], 0.0) / len(boosters)
    baseline = float(np.mean([np.ravel(booster._baseline_prediction)[0] for booster in boosters]))
    depth = max(int(tree.nodes["depth"].max()) for tree in trees)
    return Forest(baseline, depth, **made)


def _threshold(node: Any, edges: Sequence[npt.NDArray[np.float32]] | None) -> float:
    if node["is_leaf"]:
        return 0.0
    # Infinite: what is known goes left, what is missing right.
    place = float(node["num_threshold"])
    return place if edges is None or np.isinf(place) else float(edges[node["feature_idx"]][int(place)])
