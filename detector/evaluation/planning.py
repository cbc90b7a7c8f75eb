"""Who is in the simulated world: every account with its type, corpus, client, times and company, drawn by seed.

Benign accounts and members of campaigns come from one distribution of corpora, clients, habits, sign-up days and group
structure. Accounts are shuffled and only then named, so that neither names nor order tell who is who.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from detector.evaluation.content import Corpus
from detector.evaluation.habits import Habits, draw_habits, network
from detector.evaluation.profiles import Campaign, Cell, Paces, Profile, Strategy
from detector.evaluation.traces import DAYS, Client

Pace = Literal["whole", "window", "nightly", "drip"]
SMALLEST, LARGEST = 5, 20_000  # requests of a benign account
AROUND_BUDGET = (0.7, 1.3)  # nobody stops at a round number
WINDOW = (np.log(0.7), np.log(12.0))  # days
GROUP_SIZE, CLASS_SIZE = (2, 20), (10, 40)  # accounts
VOLUME_SPREAD = 0.7  # of the logarithm of benign accounts' volumes around their client's


@dataclass(frozen=True)
class Size:
    """How large a world is: benign accounts, campaigns a cell, and the answers at which a campaign is cut off.

    A campaign has at most so many members that each gets `least_answers`: smaller worlds have smaller campaigns, not
    emptier accounts.
    """

    accounts: int
    campaigns: int
    most_answers: int
    least_answers: int = 20


FULL = Size(10_000, 5, 20_000)
QUICK = Size(1_000, 1, 1_200, 60)


@dataclass(frozen=True)
class Timing:
    """When requests come: a pace, from a day to a day, and the hour of nightly jobs."""

    pace: Pace
    first: float
    last: float
    hour: float


@dataclass(frozen=True)
class Plan:
    """One account of the world. `group` names a campaign or a benign group, `template` what resampling draws."""

    number: int
    code: str  # A1 … or B1 …
    corpus: Corpus
    client: Client
    habits: Habits
    timing: Timing
    requests: int
    group: str
    template: str
    seed: int
    pool_seed: int
    breadth: float
    created_days_before: float
    payment: str
    signup_network: str
    cell: str = ""
    campaign: Campaign | None = None
    cover: Profile | None = None
    cover_corpus: Corpus | None = None
    declared: str | None = None

    @property
    def account(self) -> str:
        """The account's name."""
        return f"acct-{self.number:06d}"

    @property
    def is_attack(self) -> bool:
        """Whether the account belongs to a campaign."""
        return self.cell != ""


class World:
    """What a world is made from: the corpora, clients, benign profiles and strategies that are there."""

    def __init__(
        self,
        corpora: Sequence[Corpus],
        clients: Sequence[Client],
        benign: Sequence[Profile],
        attacks: Sequence[Strategy],
    ) -> None:
        self.corpora, self.clients, self.benign, self.attacks = corpora, clients, benign, attacks

    def strategy(self, code: str) -> Strategy:
        """Return the attack of that code."""
        return next(strategy for strategy in self.attacks if strategy.code == code)

    def profile(self, code: str) -> Profile:
        """Return the benign profile of that code."""
        return next(profile for profile in self.benign if profile.code == code)

    def plan(self, size: Size, seed: int) -> list[Plan]:
        """Return every account of a world of that size, in the order of their names."""
        rng = random.Random(f"world {seed}")
        plans = [*self._benign(size, rng), *self._campaigns(size, rng)]
        rng.shuffle(plans)
        return [replace(plan, number=number) for number, plan in enumerate(plans)]

    def _benign(self, size: Size, rng: random.Random) -> list[Plan]:
        plans: list[Plan] = []
        shares = [profile.share / _mean_group_size(profile) for profile in self.benign]
        while len(plans) < size.accounts:
            profile = rng.choices(self.benign, shares)[0]
            members = min(size.accounts - len(plans), _group_size(rng, profile))
            plans += self._group(profile, members, f"benign-{len(plans)}", rng)
        return plans

    def _group(self, profile: Profile, members: int, group: str, rng: random.Random) -> list[Plan]:
        lead, found = draw_habits(rng), []
        shared = rng.choice(self.corpora)
        founding, declared = _age(rng), rng.random() < profile.declared_share
        for rank in range(members):
            client = rng.choice(self.clients)
            requests = client.volume * profile.volume * np.exp(rng.gauss(0, VOLUME_SPREAD))
            alike = shared if rng.random() < 0.5 and members > 1 else rng.choice(self.corpora)
            plan = Plan(
                number=0,
                code=profile.code,
                corpus=alike,
                client=client,
                habits=_in_company(rng, lead, rank),
                timing=_timing(rng, profile.paces),
                requests=max(SMALLEST, min(LARGEST, round(requests))),
                group=group,
                template=f"{profile.code} {client.name}",
                seed=rng.getrandbits(60),
                pool_seed=rng.getrandbits(60),
                breadth=rng.uniform(*profile.breadth),
                created_days_before=max(0.0, founding + rng.uniform(0, 2)) if members > 1 else _age(rng),
                payment=_payment(rng, group, rank, members),
                signup_network=lead.client["network"] if rng.random() < 0.6 else network(rng),
                declared=profile.declared if declared else None,
            )
            found.append(plan)
        return found

    def _campaigns(self, size: Size, rng: random.Random) -> list[Plan]:
        # Corpora go round, so that no campaign's worth of chance makes a corpus tell who harvests.
        corpora = itertools.cycle(rng.sample(list(self.corpora), len(self.corpora)))
        return [
            plan
            for strategy in self.attacks
            for cell in strategy.cells
            for number in range(size.campaigns)
            for plan in self._campaign(strategy, cell, number, next(corpora), size, rng)
        ]

    def _campaign(
        self, strategy: Strategy, cell: Cell, number: int, corpus: Corpus, size: Size, rng: random.Random
    ) -> list[Plan]:
        answers = min(cell.budget, size.most_answers)
        members = max(1, min(cell.accounts, answers // size.least_answers))
        cover_share = rng.uniform(*strategy.cover)
        each = round(answers / members / (1 - cover_share))
        name = f"{strategy.code} {cell.name} #{number}"
        lead, founding = draw_habits(rng), _age(rng)
        timing, pool_seed = _timing(rng, strategy.paces, strategy.per_day, each), rng.getrandbits(60)
        breadth = 1.0 if rng.random() < 0.7 else rng.uniform(0.2, 1.0)
        apart = rng.random() < 0.5  # anti-synchrony: the members take turns
        plans = []
        for rank in range(members):
            cover = rng.choice([profile for profile in self.benign if profile.code in ("B2", "B3", "B6", "B8", "B15")])
            alike = [other for other in self.corpora if other.has_answers == corpus.has_answers]
            cover_corpus, client = rng.choice(alike), rng.choice(self.clients)
            plan = Plan(
                number=0,
                code=strategy.code,
                corpus=corpus,
                client=client,
                habits=_in_company(rng, lead, rank),
                timing=_moved(rng, timing) if apart else timing,
                requests=max(1, round(each * rng.uniform(*AROUND_BUDGET))),
                group=name,
                template=name,
                seed=rng.getrandbits(60),
                pool_seed=pool_seed,
                breadth=breadth,
                created_days_before=max(0.0, founding + rng.uniform(0, 2)) if members > 1 else founding,
                payment=_payment(rng, name, rank, members),
                signup_network=lead.client["network"] if rng.random() < 0.6 else network(rng),
                cell=f"{strategy.code} {cell.name}",
                campaign=Campaign(members, rank, cover_share, lambda: iter(())),
                cover=cover,
                cover_corpus=cover_corpus,
            )
            plans.append(plan)
        return plans


def _group_size(rng: random.Random, profile: Profile) -> int:
    if profile.grouped >= 1.0:
        return rng.randint(*CLASS_SIZE)
    return rng.randint(*GROUP_SIZE) if rng.random() < _chance_of_group(profile) else 1


def _chance_of_group(profile: Profile) -> float:
    # Groups are large, so the chance that one begins is far smaller than the share of accounts in groups.
    members = sum(GROUP_SIZE) / 2
    return profile.grouped / (profile.grouped + members * (1 - profile.grouped))


def _mean_group_size(profile: Profile) -> float:
    if profile.grouped >= 1.0:
        return sum(CLASS_SIZE) / 2
    return 1 + _chance_of_group(profile) * (sum(GROUP_SIZE) / 2 - 1)


def _in_company(rng: random.Random, lead: Habits, rank: int) -> Habits:
    # Members of a group, benign or not, share some of the leader's habits; which ones differs from member to member.
    own = draw_habits(rng)
    if rank == 0:
        return lead
    client = dict(own.client)
    for name in ("user_agent", "fingerprint"):
        client[name] = lead.client[name]
    if rng.random() < 0.5:
        client["network"] = lead.client["network"]
    if rng.random() < 0.7:
        client["asn"] = lead.client["asn"]
    alike = rng.random() < 0.7
    return Habits(
        client,
        lead.parameters if alike else own.parameters,
        lead.system if alike else own.system,
        own.repeats,
        own.failures,
        lead.examples if alike else own.examples,
    )


def _timing(rng: random.Random, paces: Paces, per_day: tuple[float, float] | None = None, requests: int = 0) -> Timing:
    pace: Pace = rng.choices(list(paces), list(paces.values()))[0]  # type: ignore[assignment]
    hour = rng.uniform(0, 24)
    if per_day is not None:
        length = max(0.5, min(float(DAYS), requests / rng.uniform(*per_day)))
        first = rng.uniform(0, DAYS - length)
        return Timing("whole", first, first + length, hour)
    length = {"whole": rng.choice((28.0, 28.0, rng.uniform(10, 28))), "window": np.exp(rng.uniform(*WINDOW)),
              "nightly": rng.choice((28.0, rng.uniform(5, 28))), "drip": rng.uniform(18, 28)}[pace]  # fmt: skip
    first = rng.uniform(0, DAYS - length)
    return Timing(pace, first, first + length, hour)


def _moved(rng: random.Random, timing: Timing) -> Timing:
    length = timing.last - timing.first
    first = rng.uniform(0, DAYS - length)
    return replace(timing, first=first, last=first + length, hour=rng.uniform(0, 24))


def _age(rng: random.Random) -> float:
    """Draw how many days before the month an account was made: the same for all."""
    return rng.expovariate(1 / 90) if rng.random() < 0.8 else 0.0


def _payment(rng: random.Random, group: str, rank: int, members: int) -> str:
    shared = members > 1 and rng.random() < 0.4
    return f"pay-{abs(hash_of(group if shared else f'{group}/{rank}')):016x}"


def hash_of(text: str) -> int:
    """Return a number of 63 bits that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()) >> 1
