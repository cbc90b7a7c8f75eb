"""An account's own past: has it asked this before, and how alike are the things it asks?

Bounded: the last `RING` fingerprints are compared one by one, older ones through their exact identity and
locality-sensitive hashing (8 bands of 8 MinHash values, which finds a Jaccard similarity of 0.9 with probability 0.98
and one of 0.6 with 0.13) in two generations, the older of which is forgotten (Leskovec, Rajaraman, Ullman: Mining of
Massive Datasets, § 3.4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.observations import Observation

RING = 256
SPREAD_OVER = 64  # how many recent requests a new one is compared with for the spread of its subjects
LEAST_FOR_SPREAD = 5
GENERATION_S = 14 * 86400.0
GENERATION_ITEMS = 50_000
BANDS, BAND_ROWS = 8, 8
BAND_SIMILARITY = 0.9  # what a hit in the bands stands for


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a request resembles the account's past: similarities of 0 to 1, None where no fingerprint tells."""

    nearest: float | None  # Jaccard similarity to the most alike past request
    average: float | None  # mean cosine to recent requests; None while there are fewer than five
    repeated: bool = False  # this very text was asked before
    reseeded: bool = False  # … with another seed
    past: int = 0  # how many requests came before


@dataclass(slots=True)
class _Generation:
    began: float = 0.0
    items: dict[int, int | None] = field(default_factory=dict)  # identity → the last seed
    bands: set[int] = field(default_factory=set)


class _Ring:
    """The newest fingerprints of one kind, one a column; grows up to `RING`, then overwrites the oldest."""

    def __init__(self, compare: Callable[[Any, Any], npt.NDArray[np.floating]]) -> None:
        self._compare = compare
        self._columns: npt.NDArray[Any] | None = None
        self._count = 0

    def alike(self, row: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
        """Return the similarity of a fingerprint to every one kept."""
        if self._columns is None or len(self._columns) != len(row):
            return np.zeros(0)
        return self._compare(self._columns[:, : min(self._count, RING)], row)

    def newest_mean(self, alike: npt.NDArray[np.floating]) -> float | None:
        """Return the mean of `alike` over the newest `SPREAD_OVER`; None while there are too few."""
        if len(alike) < LEAST_FOR_SPREAD:
            return None
        end = len(alike) if self._count < RING else self._count % RING
        begin = end - SPREAD_OVER
        chosen = (
            alike[begin:end]
            if begin >= 0
            else np.concatenate([alike[:end], alike[begin:] if self._full else alike[:0]])
        )
        return float(chosen.sum() / len(chosen))

    def add(self, row: npt.NDArray[Any]) -> None:
        """Keep a fingerprint."""
        if self._columns is None or len(self._columns) != len(row):
            self._columns, self._count = np.zeros((len(row), 16), row.dtype), 0
        if self._count == self._columns.shape[1] < RING:
            self._columns = np.concatenate([self._columns, np.zeros_like(self._columns)], axis=1)
        self._columns[:, self._count % RING] = row
        self._count += 1

    @property
    def _full(self) -> bool:
        return self._count >= RING


def _jaccard(columns: npt.NDArray[np.uint32], row: npt.NDArray[np.uint32]) -> npt.NDArray[np.floating]:
    # 64 positions fit a byte, and summing bytes across columns is what the processor is quickest at.
    equal = np.add.reduce((columns == row[:, None]).view(np.uint8), axis=0, dtype=np.uint8)
    return np.asarray(equal / np.float64(len(row)))


def _cosine(columns: npt.NDArray[np.float32], row: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    return np.asarray(row @ columns)


class OwnPast:
    """Remembers fingerprints and compares each request with those before it."""

    def __init__(self) -> None:
        self._recent, self._older = _Generation(), _Generation()
        self._hashes, self._vectors = _Ring(_jaccard), _Ring(_cosine)
        self._met = 0

    def meet(self, seen: Observation) -> Likeness:
        """Return how a request resembles the past, then make it part of the past."""
        cosines = None if seen.embedding is None else self._vectors.alike(seen.embedding)
        average = None if cosines is None else self._vectors.newest_mean(cosines)
        if seen.minhash is not None:
            likeness = self._by_minhash(seen, seen.minhash, average)
        elif cosines is not None:
            # An imported record may bring an embedding alone; texts that share most of their words reach 0.75.
            nearest = max(0.0, 2 * float(cosines.max(initial=0.0)) - 1)
            likeness = Likeness(nearest, average, nearest > 0.99, past=self._met)
        else:
            return Likeness(None, None, past=self._met)
        if seen.embedding is not None:
            self._vectors.add(seen.embedding)
        self._met += 1
        return likeness

    def _by_minhash(self, seen: Observation, minhash: npt.NDArray[np.uint32], average: float | None) -> Likeness:
        self._age(seen.time)
        item = hash(minhash.tobytes())
        repeated = item in self._recent.items or item in self._older.items
        earlier = self._recent.items.get(item, self._older.items.get(item))
        alike = self._hashes.alike(minhash)
        nearest = 1.0 if repeated else self._nearest(alike, minhash)
        self._recent.items[item] = seen.seed
        if average is None:
            average = self._hashes.newest_mean(alike)
        self._hashes.add(minhash)
        reseeded = repeated and seen.seed is not None and seen.seed != earlier
        return Likeness(nearest, average, repeated, reseeded, self._met)

    def _nearest(self, alike: npt.NDArray[np.floating], minhash: npt.NDArray[np.uint32]) -> float:
        nearest = float(alike.max(initial=0.0))
        bands = [hash((row, part.tobytes())) for row, part in enumerate(minhash.reshape(BANDS, BAND_ROWS))]
        if nearest < BAND_SIMILARITY and any(band in self._recent.bands or band in self._older.bands for band in bands):
            nearest = BAND_SIMILARITY
        self._recent.bands.update(bands)
        return nearest

    def _age(self, time: float) -> None:
        if not self._recent.items:
            self._recent.began = time
        elif len(self._recent.items) >= GENERATION_ITEMS or time - self._recent.began > GENERATION_S:
            self._older, self._recent = self._recent, _Generation(time)


class Conversations:
    """Which turns of which conversations passed by; tells a conversation held here from one that is only claimed."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def continues(self, conversation: str | None, turns: float, repeated: bool) -> float:
        """Return how far a request continues a conversation: 1 the turn before was seen, 0.5 only claimed, 0 not.

        Where the turns aren't known, or are kept by the server, another text in a known conversation continues it.
        """
        if conversation is None:
            return 0.5 if turns > 1 else 0.0
        counted = turns if turns >= 1 else 1.0
        before = self._met(conversation, counted - 1) or (not repeated and self._met(conversation, counted))
        self._recent.add(hash((conversation, counted)))
        if len(self._recent) >= GENERATION_ITEMS:
            self._older, self._recent = self._recent, set()
        if turns > 1:
            return 1.0 if self._met(conversation, counted - 1) else 0.5
        return 1.0 if before else 0.0

    def _met(self, conversation: str, turns: float) -> bool:
        key = hash((conversation, turns))
        return key in self._recent or key in self._older
