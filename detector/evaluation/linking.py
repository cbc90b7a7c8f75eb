"""What links and their scores are learned from, and measured on: simulated months whose campaigns are known.

A month is kept as states and link profiles at the ends of some days, so that fits and figures cost no second
simulation. Beside the world's own companies and classes, some ordinary accounts are dealt out to several keys, by
conversation: one application behind many keys is linked like a campaign, and must not be scored like one.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from detector import columns, sketch
from detector.columns import Columns
from detector.evaluation.planning import Plan, World
from detector.evaluation.profiles import Cell
from detector.evaluation.simulation import START, START_S, History, simulate
from detector.links import profile
from detector.links.blocking import candidates
from detector.links.channels import Comparison
from detector.links.describing import describe
from detector.links.likelihood import CAMPAIGN, GROUP, STRANGERS, PairLikelihood
from detector.links.profile import Links, Places, Registered
from detector.links.scoring import SetScorer
from detector.links.sets import LEAST_REQUESTS, Linkage, link
from detector.sketch import States
from gateway.ledger.fingerprint import complete_all
from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.traffic import to_table

DAYS = (1, 2, 3, 5, 7, 10, 14, 21, 28)  # of the month, at whose ends everything is looked at
PAIR_DAYS = (2, 5, 10, 28)  # for the likelihoods of pairs
SET_DAYS = (2, 5, 7, 10, 14, 28)  # for the scores of sets
CELLS = (Cell(1, 300), Cell(10, 800), Cell(30, 2_100), Cell(100, 4_000))
HYDRA_CELLS = (Cell(10, 1_000), Cell(20, 2_500), Cell(100, 9_000), Cell(1_000, 22_000))
MOST_REQUESTS, MOST_BESIDE = 200, 60  # of an account's main use and of each other one: links need many accounts
BLOCK_REQUESTS = 20_000
DEALT, DEALT_FROM, LEAST_SHARE, MOST_KEYS = 160, 45, 12, 14  # accounts dealt out, of so many requests, to so many keys
HARVESTED = 3  # requests before which a member has shown nothing of its campaign
FACTS = ("group", "kind", "attack", "members", "harvest")
PAIRS_OF_GROUP, STRANGERS_OF_DAY = 60, 12_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Month:
    """Accounts with their truth, and what was known of them at the end of each of `DAYS`.

    `group` names a campaign or an ordinary group, `kind` the strategy or look-alike, `members` how many accounts a
    campaign has (0: ordinary); `harvest` counts harvesting requests, shape (accounts, 28).
    """

    group: npt.NDArray[np.str_]
    kind: npt.NDArray[np.str_]
    attack: npt.NDArray[np.bool_]
    members: npt.NDArray[np.int64]
    harvest: npt.NDArray[np.int64]
    states: dict[int, States]
    links: dict[int, Links]

    def rows(self, day: int) -> Places:
        """Return the accounts that have shown enough by the end of a day to be linked."""
        return np.flatnonzero(self.states[day]["total"] >= LEAST_REQUESTS)

    def harvested(self, day: int) -> npt.NDArray[np.int64]:
        """Return how many requests of each account had harvested by the end of a day."""
        return np.asarray(self.harvest[:, :day].sum(axis=1))


def many_accounts(world: World) -> World:
    """Return the world with campaigns of 10, 30 and 100 accounts of every strategy, and hydras of up to 1,000."""
    cells = {"A9": HYDRA_CELLS}
    attacks = [replace(strategy, cells=cells.get(strategy.code, CELLS)) for strategy in world.attacks]
    return World(world.corpora, world.clients, world.benign, attacks)


def follow(world: World, plans: Sequence[Plan], seed: int) -> Iterator[Month]:
    """Yield the month of these accounts, some thousand requests' worth at a time; see `joined`."""
    rng = random.Random(seed + 7)
    dealt = [place for place, plan in enumerate(plans) if not plan.is_attack and plan.requests >= DEALT_FROM]
    chosen = set(rng.sample(dealt, min(DEALT, len(dealt))))
    block: list[tuple[Plan, int]] = []
    for place, plan in enumerate(plans):
        beside = tuple(replace(use, requests=min(use.requests, MOST_BESIDE)) for use in plan.beside)
        less = replace(plan, requests=min(plan.requests, MOST_REQUESTS), beside=beside)
        keys = rng.randint(3, max(3, min(MOST_KEYS, less.requests // LEAST_SHARE))) if place in chosen else 1
        block.append((less, keys))
        if sum(each.requests for each, _ in block) >= BLOCK_REQUESTS:
            yield _followed(world, block)
            block = []
    if block:
        yield _followed(world, block)


def joined(parts: Sequence[Month]) -> Month:
    """Return parts of a month as one."""
    facts: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FACTS}
    return Month(
        states={day: np.concatenate([part.states[day] for part in parts]) for day in DAYS},
        links={day: np.concatenate([part.links[day] for part in parts]) for day in DAYS},
        **facts,
    )


def pairs(month: Month, day: int, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """Return statistics of pairs, their kinds and weights: groups weigh alike, whatever their size."""
    rows = month.rows(day)
    states, links = month.states[day][rows], month.links[day][rows]
    comparison = Comparison(states, links)
    groups, group = np.unique(month.group[rows], return_inverse=True)
    first, second = candidates(states, links, comparison.centred)
    apart = np.flatnonzero(group[first] != group[second])
    drawn = rng.permutation(apart)[: STRANGERS_OF_DAY * 2 // 3]
    others = rng.integers(0, len(rows), (2, STRANGERS_OF_DAY // 3))
    inside = [_inside(np.flatnonzero(group == number), rng) for number in range(len(groups))]
    first = np.concatenate([first[drawn], others[0], *(a for a, _ in inside)])
    second = np.concatenate([second[drawn], others[1], *(b for _, b in inside)])
    same, attack = group[first] == group[second], month.attack[rows][first]
    kinds = np.where(same, np.where(attack, CAMPAIGN, GROUP), STRANGERS)
    shown = month.harvested(day)[rows] >= HARVESTED
    # One application behind several keys is linked as it should be; it stands for no group that must be told apart.
    kept = (first != second) & ((kinds != CAMPAIGN) | (shown[first] & shown[second]))
    kept &= (kinds != GROUP) | ~np.char.startswith(groups[group[first]], "dealt")
    first, second, kinds = first[kept], second[kept], kinds[kept]
    size = np.bincount(group)[group[first]]
    return comparison.statistics(first, second), kinds, np.where(kinds == STRANGERS, 1.0, 1.0 / size)


def fit_pairs(months: Sequence[Month], seed: int = 0) -> PairLikelihood:
    """Learn the likelihoods from months."""
    rng = np.random.default_rng(seed)
    parts = [pairs(month, day, rng) for month in months for day in PAIR_DAYS]
    statistics, kinds, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PairLikelihood().fit(statistics, kinds, weight)


def linked(month: Month, day: int, without: Collection[str] = ()) -> tuple[Linkage, Places]:
    """Link a month's accounts at the end of a day; returns what was found and the accounts that its rows are."""
    rows = month.rows(day)
    return link(month.states[day][rows], month.links[day][rows], without), rows


def described(
    month: Month, day: int, likelihood: PairLikelihood, without: Collection[str] = ()
) -> tuple[list[Places], pd.DataFrame, npt.NDArray[np.bool_], npt.NDArray[np.str_]]:
    """Return the sets found (as accounts), what they look like, which are campaigns, and whose they mostly are.

    A set is a campaign where most of its members had harvested.
    """
    found, rows = linked(month, day, without)
    frame = describe(found.sets, found.states, found.comparison, likelihood)
    accounts = [rows[members] for members in found.sets]
    shown = month.harvested(day) >= HARVESTED
    truth = np.array([shown[each].mean() > 0.5 for each in accounts], dtype=bool)
    return accounts, frame, truth, np.array([_commonest(month.group[each]) for each in accounts], dtype=np.str_)


def fit_sets(months: Sequence[Month], likelihood: PairLikelihood) -> SetScorer:
    """Learn to score sets from those that are found in months; strategies stay within one fold."""
    frames, truths, names, weights = [], [], [], []
    for number, month in enumerate(months):
        kind = dict(zip(month.group.tolist(), month.kind.tolist(), strict=True))
        for day in SET_DAYS:
            accounts, frame, truth, groups = described(month, day, likelihood)
            # A campaign that has not begun is neither: it is linked, and asks what anybody asks.
            told = np.flatnonzero(truth | ~np.array([month.attack[each].any() for each in accounts], dtype=bool))
            frames.append(frame.iloc[told])
            truths.append(truth[told])
            names.append([kind[g] if t else f"{number} {g}" for g, t in zip(groups[told], truth[told], strict=True)])
            weights.append([f"{number} {g}" for g in groups[told]])
    _owners, place, count = np.unique(np.concatenate(weights), return_inverse=True, return_counts=True)
    truth, groups = np.concatenate(truths), np.concatenate(names).astype(np.str_)
    return SetScorer().fit(pd.concat(frames, ignore_index=True), truth, 1.0 / count[place], groups)


def _inside(members: Places, rng: np.random.Generator) -> tuple[Places, Places]:
    if len(members) > 60:
        drawn = rng.choice(members, (2, PAIRS_OF_GROUP))
        return drawn[0], drawn[1]
    first, second = np.triu_indices(len(members), 1)
    kept = rng.permutation(len(first))[:PAIRS_OF_GROUP]
    return members[first[kept]], members[second[kept]]


def _commonest(names: npt.NDArray[np.str_]) -> str:
    known, counts = np.unique(names, return_counts=True)
    return str(known[counts.argmax()])


def _followed(world: World, block: Sequence[tuple[Plan, int]]) -> Month:
    histories = [simulate(plan, world) for plan, _ in block]
    rows = columns.read(to_table(complete_all([record for each in histories for record in each.records])))
    owner = np.repeat(np.arange(len(block)), [keys for _, keys in block])  # of each key
    begins = np.cumsum([0, *(keys for _, keys in block)])
    known = {plan.account: place for place, (plan, _) in enumerate(block)}
    mine = np.array([known[name] for name in rows.names], dtype=np.int64)[rows.account]
    keys = np.array([keys for _, keys in block])
    places = begins[mine] + (_dealt(rows) % keys[mine].astype(np.uint64)).astype(np.int64)
    states, links = sketch.empty(len(owner)), profile.empty(len(owner))
    for place, who in enumerate(owner.tolist()):
        plan, count = block[who]
        _register(links, place, plan, alone=count > 1 and plan.seed % 2 == 0)
    kept_states, kept_links = {}, {}
    first = int(START_S // sketch.DAY_S)
    day = (rows.time // sketch.DAY_S).astype(np.int64) - first
    for number in range(max(DAYS)):
        part = np.flatnonzero(day == number)
        sketch.update(states, rows.take(part), places[part], first + number)
        profile.update(links, rows.take(part), places[part])
        if number + 1 in DAYS:
            kept_states[number + 1], kept_links[number + 1] = states.copy(), links.copy()
    plans = [block[who][0] for who in owner.tolist()]
    dealt = [block[who][1] > 1 for who in owner.tolist()]
    return Month(
        group=np.array([f"dealt {p.account}" if d else p.group for p, d in zip(plans, dealt, strict=True)], np.str_),
        kind=np.array([plan.code for plan in plans], np.str_),
        attack=np.array([plan.is_attack for plan in plans], bool),
        members=np.array([plan.campaign.members if plan.campaign else 0 for plan in plans], np.int64),
        harvest=np.array([_harvest(histories[who]) for who in owner.tolist()], np.int64),
        states=kept_states,
        links=kept_links,
    )


def _dealt(rows: Columns) -> npt.NDArray[np.uint64]:
    alone = np.arange(len(rows)).astype(np.uint64) * np.uint64(7919)
    return columns.mixed(np.where(rows.conversation != 0, rows.conversation, alone))


def _register(links: Links, place: int, plan: Plan, alone: bool) -> None:
    payment = f"{plan.payment} {place}" if alone else plan.payment
    created = START - timedelta(days=plan.created_days_before)
    known = Registered(created, payment, plan.signup_network)
    profile.register(links, {plan.account: place}, {plan.account: known})


def _harvest(history: History) -> npt.NDArray[np.int64]:
    times = np.array([from_rfc3339(record["time"]).timestamp() for record in history.records])
    days = ((times[history.harvest] - START_S) // sketch.DAY_S).astype(np.int64)
    return np.bincount(days, minlength=max(DAYS))[: max(DAYS)]
