"""From weighed pairs to sets that hold together: average linkage on a sample, so that no hub chains strangers.

Components join in rounds, each with the neighbour it is tied to most (Borůvka), and only where the mean log odds over
a sample of their pairs, linked or not, speaks for one campaign (average linkage: Sokal and Michener 1958). In a round
half of the components, drawn by lot, take others in and the rest join, so that rounds are few and whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from detector.links.channels import Floats
from detector.links.profile import Places

SAMPLE = 32  # pairs on which two components are compared
LEAST_MEMBERS = 3
MOST_ROUNDS = 60
Weigh = Callable[[Places, Places], Floats]  # log odds of pairs


def components(
    size: int, first: Places, second: Places, odds: Floats, weigh: Weigh, least: float = 0.0, seed: int = 0
) -> list[Places]:
    """Return sets of rows, largest first: those of `size` rows that edges with their log odds hold together.

    `least` is the mean log odds that two components need to join.
    """
    rng = np.random.default_rng(seed)
    label = np.arange(size)
    refused: npt.NDArray[np.int64] = np.empty(0, np.int64)
    for _ in range(MOST_ROUNDS):
        a, b, strength = _ties(label, first, second, odds, refused, size)
        if not len(a):
            break
        joining, taking = _chosen(a, b, strength, rng.random(size) < 0.5)
        joined = _means(label, joining, taking, weigh, rng) >= least
        label = _joined(label, joining[joined], taking[joined])
        refused = np.append(refused, (np.minimum(joining, taking) * size + np.maximum(joining, taking))[~joined])
        refused = _standing(refused, taking[joined], size)
    return _sets(_peeled(label, weigh, least, rng))


def _ties(
    label: Places, first: Places, second: Places, odds: Floats, refused: Places, size: int
) -> tuple[Places, Places, Floats]:
    a, b = np.minimum(label[first], label[second]), np.maximum(label[first], label[second])
    between = a != b
    keys, place = np.unique(a[between] * size + b[between], return_inverse=True)
    strength = np.bincount(place, odds[between], len(keys)) / np.sqrt(np.bincount(place, minlength=len(keys)) + 1.0)
    open_ = ~np.isin(keys, refused)
    return keys[open_] // size, keys[open_] % size, strength[open_]


def _chosen(a: Places, b: Places, strength: Floats, takes: npt.NDArray[np.bool_]) -> tuple[Places, Places]:
    # Each component's strongest tie, where it is of those that join and the other of those that take.
    ends, others, weight = np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([strength, strength])
    order = np.lexsort((weight, ends))
    last = np.append(np.flatnonzero(np.diff(ends[order])), len(order) - 1)
    joining, taking = ends[order][last], others[order][last]
    proper = ~takes[joining] & takes[taking]
    return joining[proper], taking[proper]


def _standing(refused: Places, grown: Places, size: int) -> Places:
    # A refusal stands until one of the two has grown.
    return np.asarray(refused[~(np.isin(refused // size, grown) | np.isin(refused % size, grown))])


def _means(label: Places, a: Places, b: Places, weigh: Weigh, rng: np.random.Generator) -> Floats:
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(len(label) + 1))
    counts = np.diff(starts)

    def drawn(component: Places) -> Places:
        inside = (rng.random((len(component), SAMPLE)) * counts[component][:, None]).astype(np.int64)
        return np.asarray(order[starts[component][:, None] + inside].ravel())

    return np.asarray(weigh(drawn(a), drawn(b)).reshape(len(a), SAMPLE).mean(axis=1))


def _joined(label: Places, joining: Places, taking: Places) -> Places:
    to = np.arange(len(label))
    to[joining] = taking
    return np.asarray(to[label])


def _peeled(label: Places, weigh: Weigh, least: float, rng: np.random.Generator) -> Places:
    # A member that the others, taken one by one, speak against leaves.
    counts = np.bincount(label, minlength=len(label))
    inside = np.flatnonzero(counts[label] >= LEAST_MEMBERS)
    if not len(inside):
        return label
    order = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[order], np.arange(len(label)))
    own = label[inside]
    draws = (rng.random((len(inside), SAMPLE)) * counts[own][:, None]).astype(np.int64)
    others = order[starts[own][:, None] + draws]
    me = np.repeat(inside, SAMPLE)
    odds = np.where(me == others.ravel(), np.nan, weigh(me, others.ravel())).reshape(-1, SAMPLE)
    found = label.copy()
    found[inside[np.nanmean(odds, axis=1) < least]] = -1
    return found


def _sets(label: Places) -> list[Places]:
    told = np.flatnonzero(label >= 0)
    order = told[np.argsort(label[told], kind="stable")]
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return sorted((part for part in parts if len(part) >= LEAST_MEMBERS), key=lambda part: (-len(part), int(part[0])))
