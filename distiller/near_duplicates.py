"""Which texts say nearly the same: MinHash signatures in bands (locality-sensitive hashing), then compared in full.

Two texts are near where at least `SIMILAR` of the 64 positions of their signatures agree, which estimates the Jaccard
similarity of their three-word shingles (A. Broder, 1997). With 16 bands of four positions none is overlooked: at most
twelve positions differ, so four bands at least are equal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gateway.ledger.fingerprint import minhash

SIMILAR = 0.8
BANDS = 16

Signatures = NDArray[np.uint32]


def groups(texts: Sequence[str], joined: Sequence[str]) -> list[int]:
    """Return each text's group, named by its first member's place.

    Near texts are in one group, and so are those that `joined` gives the same name, and whatever hangs together.
    """
    parents = list(range(len(texts)))
    first: dict[str, int] = {}
    for place, name in enumerate(joined):
        _join(parents, first.setdefault(name, place), place)
    for one, other in _near(_signatures(texts)):
        _join(parents, one, other)
    return [_root(parents, place) for place in range(len(texts))]


def near_any(texts: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Return, text by text, whether it is near any of the others."""
    found = set()
    for one, other in _near(_signatures([*texts, *others])):
        low, high = sorted((one, other))
        if low < len(texts) <= high:
            found.add(low)
    return [place in found for place in range(len(texts))]


def _signatures(texts: Sequence[str]) -> Signatures:
    if not texts:
        return np.zeros((0, 64), np.uint32)
    return np.stack([minhash(text) for text in texts])


def _near(signatures: Signatures) -> Iterator[tuple[int, int]]:
    """Yield pairs of places whose signatures are near; some more than once."""
    width = signatures.shape[1] // BANDS
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for place, row in enumerate(np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])):
            buckets[row.tobytes()].append(place)
        for places in buckets.values():
            if len(places) > 1:
                yield from _pairs(signatures, places)


def _pairs(signatures: Signatures, places: Sequence[int]) -> Iterator[tuple[int, int]]:
    block = signatures[list(places)]
    for position in range(len(places) - 1):
        agreed = (block[position + 1 :] == block[position]).mean(axis=1)
        for behind in np.nonzero(agreed >= SIMILAR)[0]:
            yield places[position], places[position + 1 + int(behind)]


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def _join(parents: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(parents, one), _root(parents, other)))
    parents[high] = low
