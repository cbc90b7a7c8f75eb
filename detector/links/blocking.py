"""Which accounts are worth comparing: those that share a key, and of large crowds those that ask alike things.

No key leads to all pairs of a crowd: one above `SMALL` accounts is cut into leaves by a tree of random projections of
the accounts' mean embeddings (Dasgupta and Freund, STOC 2008), and within a leaf an account is compared with the
`NEAREST` of them. The cost grows with accounts × keys, whatever is popular.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from detector.links.profile import EMPTY, Hashes, Links, Places
from detector.sketch import DAY_S, States

SMALL = 24  # accounts of which all pairs are compared
LEAF = 256
NEAREST = 8
TREES = 3  # for the crowd of all accounts, which has no key but content
MOST_COMMON = 0.6  # a value that more than this share of all accounts has tells nothing
_SKETCHED = ("skeleton", "form", "software", "network", "prompt", "slot")


def candidates(states: States, links: Links, vectors: npt.NDArray[np.float32], seed: int = 0) -> tuple[Places, Places]:
    """Return pairs of rows to compare, each once, the lower row first. `vectors`: unit or zero, (accounts, 128)."""
    rng = np.random.default_rng(seed)
    everyone, size = np.arange(len(states)), max(1, len(states))
    found = [_within(crowd, vectors, rng) for crowd in _crowds(states, links)]
    found += [_within(everyone, vectors, rng) for _ in range(TREES)]
    coded = np.unique(np.concatenate(found))
    return coded // size, coded % size


def _crowds(states: States, links: Links) -> Iterator[Places]:
    everyone = np.arange(len(links))
    for name in _SKETCHED:
        held = links[name]
        yield from _groups(held.ravel(), np.repeat(everyone, held.shape[1]), len(links))
    for values in (links["payment"], links["signup_network"], links["pivot_day"]):
        yield from _groups(values, everyone, len(links))
    for seconds in (links["created"], states["first"]):
        # A day that begins at midnight, and one that begins at noon: neither border parts those who come together.
        for shift in (0.0, 0.5):
            day = (seconds / DAY_S + shift).astype(np.uint32)
            yield from _groups(np.where(seconds == EMPTY, EMPTY, day), everyone, len(links))


def _groups(values: Hashes, owners: Places, size: int) -> Iterator[Places]:
    told = values != EMPTY
    order = np.lexsort((owners[told], values[told]))
    ordered, members = values[told][order], owners[told][order]
    for part in np.split(members, np.flatnonzero(np.diff(ordered)) + 1):
        if 2 <= len(part) <= max(SMALL, MOST_COMMON * size):
            yield part


def _within(crowd: Places, vectors: npt.NDArray[np.float32], rng: np.random.Generator) -> Places:
    size = len(vectors)
    if len(crowd) <= SMALL:
        first, second = np.triu_indices(len(crowd), 1)
        return np.asarray(_coded(crowd[first], crowd[second], size))
    return np.concatenate([_nearest(leaf, vectors) for leaf in _leaves(crowd, vectors, rng)])


def _leaves(crowd: Places, vectors: npt.NDArray[np.float32], rng: np.random.Generator) -> Iterator[Places]:
    if len(crowd) <= LEAF:
        yield crowd
        return
    along = vectors[crowd] @ rng.standard_normal((vectors.shape[1],)).astype(np.float32)
    order = crowd[np.argsort(along, kind="stable")]
    yield from _leaves(order[: len(order) // 2], vectors, rng)
    yield from _leaves(order[len(order) // 2 :], vectors, rng)


def _nearest(leaf: Places, vectors: npt.NDArray[np.float32]) -> Places:
    alike = vectors[leaf] @ vectors[leaf].T
    np.fill_diagonal(alike, -2.0)
    near = np.argpartition(alike, -NEAREST, axis=1)[:, -NEAREST:]
    return _coded(np.repeat(leaf, NEAREST), leaf[near].ravel(), len(vectors))


def _coded(first: Places, second: Places, size: int) -> Places:
    # A pair as one number, so that many are made distinct in one sort.
    return np.asarray(np.minimum(first, second) * size + np.maximum(first, second), dtype=np.int64)
