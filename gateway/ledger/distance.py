"""How far a text lies from the rows that a student was trained on: `auto` asks it for each request (numpy, under 1 ms).

The distance is the sum of two standardised parts. They were chosen by what they accept of five tasks' fresh rows and of
eight kinds of foreign text (`tests/gateway/ledger/test_distance.py`); each part alone let more foreign texts in:

- **neighbours**: 1 − the mean cosine to the 5 nearest reference rows, over TF-IDF of character 3- to 5-grams inside
  words. N-grams that no reference row has stay in the text's norm with the greatest IDF, so that words out of
  vocabulary push a text away.
- **surprise**: the mean negative log-probability of its words under a bigram model of the reference rows with
  Witten–Bell smoothing (IEEE Trans. Inf. Theory 37(4), 1991): it sees whether familiar words stand in a familiar order.

Numbers, mail and web addresses and the scrubber's placeholders count as one word each, so that a scrubbed row and the
live text it came from are about equally far. Only hashes of n-grams are kept, no text.

The threshold is the split-conformal quantile of calibration rows that neither the fit nor the gate uses: of fresh rows
exchangeable with them, 95 % lie within it on average over calibrations (Vovk, Gammerman, Shafer 2005; Lei et al.,
JASA 113, 2018, § 2.2); the share
of one calibration has a standard deviation of 1.5 points at n = 200.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gateway.ledger.errors import Corrupt, InvalidValue

COVERAGE = 0.95
FAR = 1000.0  # what has no words, or is too long to be of the task; finite, because it is written into JSON
NEIGHBOURS = 5
LEAST_ROWS = 20
MOST_ROWS = 1000  # reference rows compared with; the bigram model learns from all
MOST_CHARACTERS = 8000  # bounds the time that one request can take
FORMAT = 1

_WORDS = re.compile(r"[^\W\d_]+|\d+|[^\w\s]")
_ADDRESSES = re.compile(
    r"\[([A-Z]+(?:_[A-Z]+)*)_\d+\]|[\w.+-]{1,64}@[\w-]+\.[\w.]+|\w{1,16}://\S+|\+?\d(?:[ ().-]{0,2}\d)+"
)
_START, _END = "\x02", "\x03"
_NOWHERE = 1e-5  # a word never seen gets this share of a uniform word's probability

Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint32]


def conformal_quantile(distances: Sequence[float], coverage: float = COVERAGE) -> float:
    """Return the ⌈(n+1)·coverage⌉-th smallest distance; `InvalidValue` when n is too small to promise the coverage."""
    rank = math.ceil((len(distances) + 1) * coverage)
    if rank > len(distances):
        least = math.ceil(coverage / (1 - coverage))
        raise InvalidValue(
            f"{len(distances)} calibration rows can't promise {coverage:.0%}: at least {least} are needed"
        )
    return float(np.sort(np.asarray(distances, dtype=np.float64))[rank - 1])


@dataclass(frozen=True)
class Distance:
    """A fitted distance and, once calibrated, the threshold within which a text belongs to the task (else NaN)."""

    neighbours: _Neighbours
    bigrams: _Bigrams
    centre: tuple[float, float]
    scale: tuple[float, float]
    longest: int  # characters of the longest reference row
    threshold: float = math.nan

    @classmethod
    def fit(cls, texts: Sequence[str]) -> Distance:
        """Learn from the training rows' texts; `InvalidValue` for fewer than 20."""
        if len(texts) < LEAST_ROWS:
            raise InvalidValue(
                f"{len(texts)} training rows are too few to tell near from far: {LEAST_ROWS} are the least"
            )
        words = [_words(text) for text in texts]
        centre, scale = _standardise(words)
        return cls(_Neighbours.fit(words), _Bigrams.fit(words), centre, scale, max(map(len, texts)))

    def distance(self, text: str) -> float:
        """Return how far the text lies from the reference rows: about 0 for a typical fresh row, greater is farther."""
        if len(text) > min(2 * max(self.longest, 250), MOST_CHARACTERS):
            return FAR
        words = _words(text)
        if not words:
            return FAR
        parts = (self.neighbours.distance(words), self.bigrams.surprise(words))
        total = sum((part - c) / s for part, c, s in zip(parts, self.centre, self.scale, strict=True))
        return min(total, FAR)

    def calibrated(self, texts: Sequence[str], coverage: float = COVERAGE) -> Distance:
        """Return this distance with the conformal threshold of held-out calibration texts."""
        return self.with_threshold(conformal_quantile([self.distance(text) for text in texts], coverage))

    def with_threshold(self, threshold: float) -> Distance:
        """Return this distance with another threshold."""
        return dataclasses.replace(self, threshold=threshold)

    def save(self, path: Path) -> None:
        """Write the distance as .npz (no pickle), complete or not at all."""
        building = path.with_name(f".{path.name}.{os.getpid()}")
        scalars = np.array([FORMAT, self.longest, self.threshold, *self.centre, *self.scale], dtype=np.float64)
        arrays = {**_arrays("neighbours", self.neighbours), **_arrays("bigrams", self.bigrams)}
        with building.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, scalars=scalars, **arrays)
        os.replace(building, path)

    @classmethod
    def load(cls, path: Path) -> Distance:
        """Read a saved distance; `Corrupt` when the file is not one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays: dict[str, npt.NDArray[Any]] = {name: file[name] for name in file.files}
            version, longest, threshold, c0, c1, s0, s1 = (float(value) for value in arrays["scalars"])
            if version != FORMAT:
                raise ValueError(f"format {version:g}")
            neighbours, bigrams = (kind(**_part(name, arrays)) for name, kind in _PARTS.items())
        except (ValueError, KeyError, TypeError, EOFError) as error:
            raise Corrupt(
                f"{path} is no adequacy distance of this version ({error}): train the student again"
            ) from error
        return cls(neighbours, bigrams, (c0, c1), (s0, s1), int(longest), threshold)


@dataclass(frozen=True)
class _Neighbours:
    """TF-IDF vectors of the reference rows as postings; those of `keys[i]` lie from `starts[i]` to `starts[i+1]`."""

    keys: Hashes  # sorted
    idf: Floats
    starts: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    weights: Floats
    count: npt.NDArray[np.int64]  # one number: reference rows

    @classmethod
    def fit(cls, documents: Sequence[list[str]]) -> _Neighbours:
        step = max(1.0, len(documents) / MOST_ROWS)
        chosen = [documents[int(i * step)] for i in range(min(len(documents), MOST_ROWS))]
        grams = [np.unique(_grams(words), return_counts=True) for words in chosen]
        key = np.concatenate([keys for keys, _ in grams])
        rows = np.repeat(np.arange(len(grams), dtype=np.int64), [len(keys) for keys, _ in grams])
        keys, position, frequency = np.unique(key, return_inverse=True, return_counts=True)
        idf = _idf(frequency, len(grams))
        weights = _tf(np.concatenate([counts for _, counts in grams])) * idf[position]
        norms = np.sqrt(np.bincount(rows, weights**2, minlength=len(grams)))
        weights = weights / norms[rows]
        order = np.argsort(position, kind="stable")
        starts = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        return cls(keys, idf, starts, rows[order], weights[order], np.array([len(grams)]))

    def distance(self, words: list[str]) -> float:
        keys, counts = np.unique(_grams(words), return_counts=True)
        place, known = _find(self.keys, keys)
        tf = _tf(counts)
        unseen = float(_idf(np.zeros(1), int(self.count[0]))[0])
        weights = tf[known] * self.idf[place]
        norm = math.sqrt(float(weights @ weights) + unseen**2 * float(tf[~known] @ tf[~known]))
        starts, lengths = self.starts[place], self.starts[place + 1] - self.starts[place]
        # All postings of the text's n-grams, one after the other, without a loop in Python.
        posting = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
        product = self.weights[posting] * np.repeat(weights, lengths)
        cosines = np.bincount(self.rows[posting], product, minlength=int(self.count[0])) / norm
        nearest = np.partition(cosines, -NEIGHBOURS)[-NEIGHBOURS:]
        return 1.0 - float(nearest.mean())


@dataclass(frozen=True)
class _Bigrams:
    """Counts of words and of pairs of words; `totals` and `kinds` are a word's followers, all and different."""

    words: Hashes  # sorted
    counts: npt.NDArray[np.int64]
    totals: npt.NDArray[np.int64]
    kinds: npt.NDArray[np.int64]
    pairs: Hashes  # sorted
    pair_counts: npt.NDArray[np.int64]

    @classmethod
    def fit(cls, documents: Sequence[list[str]]) -> _Bigrams:
        sides = [_pairs(words) for words in documents]
        first, second, both = (np.concatenate([side[i] for side in sides]) for i in range(3))
        words = np.unique(np.concatenate([first, second]))
        pairs, at, pair_counts = np.unique(both, return_index=True, return_counts=True)
        counts = np.bincount(np.searchsorted(words, second), minlength=len(words))
        totals = np.bincount(np.searchsorted(words, first), minlength=len(words))
        kinds = np.bincount(np.searchsorted(words, first[at]), minlength=len(words))
        return cls(words, counts, totals, kinds, pairs, pair_counts)

    def surprise(self, words: list[str]) -> float:
        first, second, both = _pairs(words)
        everything, vocabulary = int(self.counts.sum()), len(self.words)
        single = (_look_up(self.words, self.counts, second) + vocabulary * _NOWHERE) / (everything + vocabulary)
        total, kinds = _look_up(self.words, self.totals, first), _look_up(self.words, self.kinds, first)
        pair = _look_up(self.pairs, self.pair_counts, both)
        known = total > 0
        probability = np.where(known, (pair + kinds * single) / np.where(known, total + kinds, 1), single)
        return float(-np.log(probability).mean())


_PARTS: dict[str, type[Any]] = {"neighbours": _Neighbours, "bigrams": _Bigrams}


def _standardise(documents: Sequence[list[str]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Median and standard deviation of both parts on every fourth row, seen from a fit on the others."""
    held = [words for words in documents[::4] if words]
    others = [words for i, words in enumerate(documents) if i % 4]
    neighbours, bigrams = _Neighbours.fit(others), _Bigrams.fit(others)
    parts = np.array([[neighbours.distance(words), bigrams.surprise(words)] for words in held])
    centre, scale = np.median(parts, axis=0), parts.std(axis=0) + 1e-3
    return (float(centre[0]), float(centre[1])), (float(scale[0]), float(scale[1]))


def _words(text: str) -> list[str]:
    plain = _ADDRESSES.sub(lambda match: f" {_kind(match)} ", text)
    words = _WORDS.findall(plain.lower())
    return ["0" * min(len(word), 4) if word[0].isdigit() else word for word in words]


def _kind(match: re.Match[str]) -> str:
    # A placeholder of the scrubber stands for what the live text still has.
    placeholder: str | None = match.group(1)
    if placeholder in ("PHONE", "CARD", "IP"):
        return "0000"
    if placeholder is not None:
        return "address" if placeholder in ("EMAIL", "URL") else placeholder.lower()
    return "address" if "@" in match.group() or "://" in match.group() else re.sub(r"\D", "", match.group())


def _grams(words: Iterable[str]) -> Hashes:
    grams: list[bytes] = []
    for word in words:
        marked = f"<{word}>"
        for size in (3, 4, 5):
            grams += [marked[i : i + size].encode() for i in range(max(1, len(marked) - size + 1))]
    return _hash(grams)


def _pairs(words: list[str]) -> tuple[Hashes, Hashes, Hashes]:
    first, second = [_START, *words], [*words, _END]
    both = [f"{a} {b}".encode() for a, b in zip(first, second, strict=True)]
    return _hash(word.encode() for word in first), _hash(word.encode() for word in second), _hash(both)


def _hash(items: Iterable[bytes]) -> Hashes:
    # 32 bits: among the ~20,000 n-grams of a task a collision is rare, and one costs a hair's breadth.
    return np.fromiter(map(zlib.crc32, items), dtype=np.uint32)


def _tf(counts: npt.NDArray[Any]) -> Floats:
    tf: Floats = 1 + np.log(counts, dtype=np.float64)
    return tf


def _idf(frequency: npt.NDArray[Any], rows: int) -> Floats:
    return np.log((rows + 1) / (frequency + 1)) + 0.1


def _find(keys: Hashes, wanted: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the places of those wanted that are among the sorted keys, and a mask of which these are."""
    place = np.searchsorted(keys, wanted)
    known = keys[np.minimum(place, len(keys) - 1)] == wanted
    return place[known], known


def _look_up(keys: Hashes, values: npt.NDArray[np.int64], wanted: Hashes) -> npt.NDArray[np.float64]:
    place, known = _find(keys, wanted)
    found = np.zeros(len(wanted))
    found[known] = values[place]
    return found


def _arrays(prefix: str, part: Any) -> dict[str, npt.NDArray[Any]]:
    return {f"{prefix}.{name}": value for name, value in vars(part).items()}


def _part(prefix: str, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(f"{prefix}."): value for name, value in arrays.items() if name.startswith(f"{prefix}.")}
