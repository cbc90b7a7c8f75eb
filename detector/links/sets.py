"""Linked sets: accounts that two or more independent channels tie together, and what ties which to which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.links.blocking import candidates
from detector.links.channels import CHANNELS, Comparison, Floats
from detector.links.components import components
from detector.links.likelihood import CAMPAIGN, log_odds, shipped
from detector.links.profile import Links, Places
from detector.sketch import States

LEAST_REQUESTS = 5  # before them an account shows too little to be linked
SAYS = 0.7  # nats by which a channel must favour one campaign over strangers to count as one that links
LEAST_ODDS = -2.0  # log odds of an edge, and of the mean over pairs of a set
# One program and one office are what any company has: these two alone, which say how requests are sent and who pays
# for them, never link; what is asked, when, or a move to another model on one day must agree as well.
ORDINARY = ("template", "company")


@dataclass(frozen=True)
class LinkedSet:
    """Accounts, by their rows, and the edges among them: pairs of rows, log odds and which `CHANNELS` each rests on.

    `edges` has shape (edges, 2), `odds` (edges,), `channels` (edges, len(CHANNELS)).
    """

    rows: Places
    edges: Places
    odds: Floats
    channels: npt.NDArray[np.bool_]


def find(states: States, links: Links, without: Collection[str] = ()) -> list[LinkedSet]:
    """Return the linked sets among accounts, largest first; `without`: channels that are not to be used."""
    rows = np.flatnonzero(states["total"] >= LEAST_REQUESTS)
    states, links = states[rows], links[rows]
    if len(rows) < 2:
        return []
    comparison, likelihood = Comparison(states, links), shipped()
    first, second = candidates(states, links, comparison.centred)
    logits = likelihood.logits(comparison.statistics(first, second))
    odds, saying = log_odds(logits, tuple(without)), speaking(logits, without)
    linked = (odds >= LEAST_ODDS) & independent(saying)
    first, second, odds, saying = first[linked], second[linked], odds[linked], saying[linked]

    def weigh(one: Places, other: Places) -> Floats:
        return log_odds(likelihood.logits(comparison.statistics(one, other)), tuple(without))

    found = components(len(rows), first, second, odds, weigh, LEAST_ODDS)
    return [_linked(part, rows, first, second, odds, saying) for part in found]


def speaking(logits: Floats, without: Collection[str] = ()) -> npt.NDArray[np.bool_]:
    """Return which channels favour one campaign over strangers, shape (pairs, channels)."""
    used = np.array([name not in without for name in CHANNELS])
    return np.asarray((logits[:, :, CAMPAIGN] >= SAYS) & used)


def independent(saying: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which pairs two channels link, one of which is not what any company has; shape (pairs,)."""
    beyond = np.array([name not in ORDINARY for name in CHANNELS])
    return np.asarray((saying.sum(axis=1) >= 2) & saying[:, beyond].any(axis=1))


def _linked(
    part: Places, rows: Places, first: Places, second: Places, odds: Floats, saying: npt.NDArray[np.bool_]
) -> LinkedSet:
    inside = np.isin(first, part) & np.isin(second, part)
    edges = np.stack([rows[first[inside]], rows[second[inside]]], axis=1)
    return LinkedSet(rows[part], edges, odds[inside], saying[inside])
