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
    signatures = _signatures(texts)
    for places in _buckets(signatures):
        _join_near(parents, signatures, places)
    return [_root(parents, place) for place in range(len(texts))]


def near_any(texts: Sequence[str], others: Sequence[str]) -> list[bool]:
    """Return, text by text, whether it is near any of the others."""
    signatures, found = _signatures([*texts, *others]), np.zeros(len(texts), bool)
    for places in _buckets(signatures):
        theirs = signatures[places[places >= len(texts)]]
        for place in places[places < len(texts)]:
            if len(theirs) and not found[place]:
                found[place] = bool(_are_near(theirs, signatures[place]).any())
    return found.tolist()


def _signatures(texts: Sequence[str]) -> Signatures:
    if not texts:
        return np.zeros((0, 64), np.uint32)
    return np.stack([minhash(text) for text in texts])


def _buckets(signatures: Signatures) -> Iterator[NDArray[np.intp]]:
    """Yield the places, in order, of those whose signatures are equal in a band; the same ones for several bands."""
    width = signatures.shape[1] // BANDS
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for place, row in enumerate(np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])):
            buckets[row.tobytes()].append(place)
        yield from (np.array(places) for places in buckets.values() if len(places) > 1)


def _join_near(parents: list[int], signatures: Signatures, places: NDArray[np.intp]) -> None:
    """Join what is near within a bucket, from one to the next: texts of one template are near in most bands."""
    if len({_root(parents, place) for place in places.tolist()}) == 1:
        return
    waiting = places
    while len(waiting):
        frontier, waiting = [int(waiting[0])], waiting[1:]
        while frontier and len(waiting):
            one = frontier.pop()
            near = _are_near(signatures[waiting], signatures[one])
            for place in waiting[near].tolist():
                _join(parents, one, place)
                frontier.append(place)
            waiting = waiting[~near]


def _are_near(signatures: Signatures, one: NDArray[np.uint32]) -> NDArray[np.bool_]:
    agreed: NDArray[np.bool_] = (signatures == one).mean(axis=1) >= SIMILAR
    return agreed


def _root(parents: list[int], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = parents[place]
    return place


def _join(parents: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(parents, one), _root(parents, other)))
    parents[high] = low
