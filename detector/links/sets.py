"""Linked sets: accounts that two or more independent channels tie together, and what ties which to which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from detector.links import scoring
from detector.links.blocking import candidates
from detector.links.channels import CHANNELS, STATISTICS, Comparison, Floats
from detector.links.components import components
from detector.links.describing import describe
from detector.links.likelihood import CAMPAIGN, PairLikelihood, log_odds, shipped
from detector.links.profile import Links, Places
from detector.sets import Edge, LinkedSet
from detector.sketch import States

LEAST_REQUESTS = 5  # before them an account shows too little to be linked
SAYS = 0.7  # nats by which a channel must favour one campaign over strangers to count as one that links
LEAST_ODDS = -2.0  # log odds of an edge, and of the mean over pairs of a set: companies are linked too, and then scored
EDGES = 60  # kept of a set, for those who look at it
BY_CHANCE, NO_DISTANCE = 0.5, 0.05  # log ratio to what chance explains, and what is left as a share of strangers'
AGAINST = -0.5  # nats of what is asked, where it is known, below which nothing else links
# One program and one office are what any company has: these two alone, which say how requests are sent and who pays
# for them, never link; what is asked, when, or a move to another model on one day must agree as well.
ORDINARY = ("template", "company")
Channels = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Linkage:
    """What was found among accounts: `sets` of them and the edges between them, all as rows of `states`.

    `first`, `second`, `odds` have shape (edges,), `saying`, the channels that each edge rests on, (edges, channels).
    """

    states: States
    comparison: Comparison
    sets: list[Places]
    first: Places
    second: Places
    odds: Floats
    saying: Channels


def link(states: States, links: Links, without: Collection[str] = ()) -> Linkage:
    """Link accounts and return the sets among them, largest first; `without`: channels that are not to be used."""
    comparison, likelihood = Comparison(states, links), shipped()
    first, second = candidates(states, links, comparison.centred)
    logits = weighed(comparison, likelihood, first, second)
    odds, saying = log_odds(logits, without), speaking(logits, without)
    linked = (odds >= LEAST_ODDS) & independent(saying) & ~divergent(logits, without)
    first, second, odds, saying = first[linked], second[linked], odds[linked], saying[linked]

    def weigh(one: Places, other: Places) -> Floats:
        return log_odds(weighed(comparison, likelihood, one, other), without)

    found = components(len(states), first, second, odds, weigh, LEAST_ODDS)
    return Linkage(states, comparison, found, first, second, odds, saying)


def find(states: States, links: Links, without: Collection[str] = ()) -> list[LinkedSet]:
    """Return the linked sets among accounts, scored, largest first."""
    rows = np.flatnonzero(states["total"] >= LEAST_REQUESTS)
    if len(rows) < 2:
        return []
    found = link(states[rows], links[rows], without)
    excess = scoring.shipped().excess(describe(found.sets, found.states, found.comparison, shipped()))
    return [
        LinkedSet(rows[members], float(over), tuple(_edges(found, members, rows)))
        for members, over in zip(found.sets, excess, strict=True)
    ]


def weighed(comparison: Comparison, likelihood: PairLikelihood, first: Places, second: Places) -> Floats:
    """Return the logits of pairs, shape (pairs, channels, kinds).

    Contents speak for a link only where they differ by no more than chance explains: a template makes all who use it
    alike.
    """
    statistics = comparison.statistics(first, second)
    logits = likelihood.logits(statistics)
    ratio, distance = (statistics[:, STATISTICS.index(name)] for name in ("ratio", "distance"))
    apart = (ratio >= BY_CHANCE) & (distance >= NO_DISTANCE)
    content = list(CHANNELS).index("content")
    logits[apart, content] = np.minimum(logits[apart, content], 0.0)
    return logits


def speaking(logits: Floats, without: Collection[str] = ()) -> Channels:
    """Return which channels favour one campaign over strangers, shape (pairs, channels)."""
    used = np.array([name not in without for name in CHANNELS])
    return np.asarray((logits[:, :, CAMPAIGN] >= SAYS) & used)


def independent(saying: Channels) -> Channels:
    """Return which pairs two channels link, one of which is not what any company has; shape (pairs,)."""
    beyond = np.array([name not in ORDINARY for name in CHANNELS])
    return np.asarray((saying.sum(axis=1) >= 2) & saying[:, beyond].any(axis=1))


def divergent(logits: Floats, without: Collection[str] = ()) -> Channels:
    """Return which pairs ask different things, as the members of a class do; shape (pairs,)."""
    asked = logits[:, list(CHANNELS).index("content"), CAMPAIGN]
    return np.asarray((asked < AGAINST) & ("content" not in without))


def _edges(found: Linkage, members: Places, rows: Places) -> list[Edge]:
    inside = np.flatnonzero(np.isin(found.first, members) & np.isin(found.second, members))
    strongest = inside[np.argsort(-found.odds[inside], kind="stable")][:EDGES]
    return [
        Edge(
            int(rows[found.first[edge]]),
            int(rows[found.second[edge]]),
            tuple(name for name, says in zip(CHANNELS, found.saying[edge], strict=True) if says),
            round(float(found.odds[edge]), 2),
        )
        for edge in strongest
    ]
