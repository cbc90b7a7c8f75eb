"""Sets hold together: what is tied by most pairs is one, and a hub chains nothing."""

from __future__ import annotations

import numpy as np

from detector.links.components import components
from detector.links.profile import Places

Floats = np.ndarray


def world(sizes: list[int], loose: int, seed: int = 3) -> tuple[int, Places, Places, np.ndarray, np.ndarray]:
    """Make blocks whose members are alike and `loose` accounts that aren't, each tied to eight others at random.

    Returns the number of accounts, both ends of the edges, their log odds, and the matrix of all log odds.
    """
    rng = np.random.default_rng(seed)
    block = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), len(sizes) + np.arange(loose)])
    size = len(block)
    odds = np.where(block[:, None] == block[None, :], 3.0, -4.0) + rng.normal(0, 1.5, (size, size))
    odds = np.triu(odds, 1) + np.triu(odds, 1).T
    near = np.argsort(-odds + rng.normal(0, 1, odds.shape), axis=1)[:, :8]
    first, second = np.repeat(np.arange(size), 8), near.ravel()
    told = (odds[first, second] > 0) & (first != second)
    return size, first[told], second[told], odds[first[told], second[told]], odds


def found(sizes: list[int], loose: int) -> tuple[list[Places], np.ndarray]:
    """Return the components of such a world, and to which block each account belongs."""
    size, first, second, odds, every = world(sizes, loose)
    block = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), len(sizes) + np.arange(loose)])
    return components(size, first, second, odds, lambda a, b: every[a, b]), block


def test_blocks_of_all_sizes_are_found_whole_and_pure() -> None:
    """Ten members or four hundred: nearly all of a block is one set, and nobody else is in it."""
    sets, block = found([10, 40, 400], 300)
    largest = [sets[np.argmax([np.sum(block[part] == number) for part in sets])] for number in range(3)]
    for number, size in enumerate((10, 40, 400)):
        inside = block[largest[number]] == number
        assert inside.sum() >= 0.9 * size
        assert inside.mean() >= 0.95


def test_a_hub_that_is_tied_to_everybody_chains_nothing() -> None:
    """Two blocks that share a strongly tied account stay two sets."""
    size, first, second, odds, every = world([20, 20], 1)
    hub = size - 1
    every[hub, :] = every[:, hub] = 2.0
    first = np.concatenate([first, np.full(hub, hub)])
    second = np.concatenate([second, np.arange(hub)])
    odds = np.concatenate([odds, np.full(hub, 2.0)])
    sets = components(size, first, second, odds, lambda a, b: every[a, b])
    assert all(not (set(part.tolist()) & set(range(20)) and set(part.tolist()) & set(range(20, 40))) for part in sets)


def test_pairs_alone_are_no_set_and_nothing_comes_of_nothing() -> None:
    """A set has three members at least; no edges make no sets."""
    none = np.empty(0, np.int64)
    assert components(5, none, none, np.empty(0), lambda a, b: np.zeros(len(a))) == []
    one = np.array([0])
    assert components(5, one, one + 1, np.array([5.0]), lambda a, b: np.full(len(a), 5.0)) == []
