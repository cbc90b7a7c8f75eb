"""Who is in the simulated world: every account with its uses, corpora, client, times and company, drawn by seed.

Benign accounts and members of campaigns come from one distribution of corpora, clients, habits, sign-up days and group
structure. Accounts are shuffled and only then named, so that neither names nor order tell who is who.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from detector.evaluation.content import Corpus
from detector.evaluation.habits import Cohesion, Habits, draw_cohesion, draw_habits, network, of_another_use
from detector.evaluation.pacing import Timing, draw_timing, in_turn, moved
from detector.evaluation.profiles import Campaign, Cell, Profile, Strategy
from detector.evaluation.traces import Client

SMALLEST, LARGEST = 5, 15_000  # requests of a use of a benign account
GROUP_SIZE, CLASS_SIZE = (2, 20), (10, 40)  # accounts
VOLUME_SPREAD = 1.1  # of the logarithm of benign accounts' volumes around their client's
BULK = 0.012  # of benign accounts ask for so many times as much:
BULK_FACTOR = (6.0, 40.0)
MEMBER_SPREAD = (0.1, 0.7)  # of the logarithm of members' shares of a campaign …
ALONE_SPREAD = 0.15  # … and of the only member's: nobody stops at a round number
USES = (0.55, 0.3, 0.15)  # shares of accounts with one use, two, three
BESIDE = (0.03, 0.8)  # requests of a further use for each of the main one
OWN_LIFE = 0.35  # of harvesting accounts that have some ordinary use of their own


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
class Use:
    """One thing that an account does: a way of asking about a corpus, with its own prompts, at its own times.

    `breadth` is the share of the corpus's topics that it is about; uses of one `pool_seed` are about the same ones.
    """

    code: str
    corpus: Corpus
    client: Client
    habits: Habits
    timing: Timing
    requests: int
    seed: int
    pool_seed: int
    breadth: float


@dataclass(frozen=True)
class Plan:
    """One account of the world: its main use, what it does beside, and its company.

    `group` names a campaign or a benign group, `template` what resampling draws. `cover` is what a member of a
    campaign hides among. A declared use has a cap a day and ends on a day of the month.
    """

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
    cover: Use | None = None
    beside: tuple[Use, ...] = ()
    declared: str | None = None
    declared_cap: int | None = None
    declared_until: float = 28.0

    @property
    def account(self) -> str:
        """The account's name."""
        return f"acct-{self.number:06d}"

    @property
    def is_attack(self) -> bool:
        """Whether the account belongs to a campaign."""
        return self.cell != ""

    @property
    def total(self) -> int:
        """Requests of all its uses."""
        return self.requests + sum(use.requests for use in self.beside)

    @property
    def corpora(self) -> frozenset[str]:
        """The names of every corpus that it asks about."""
        cover = () if self.cover is None else (self.cover,)
        return frozenset([self.corpus.name, *(use.corpus.name for use in (*self.beside, *cover))])


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
        # What somebody does beside something else, or hides among: nothing that one would have to declare.
        self._everyday = [profile for profile in benign if profile.declared is None and profile.grouped < 1.0]

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
        lead, corpus, cohesion = draw_habits(rng), rng.choice(self.corpora), draw_cohesion(rng)
        founding, pool_seed = _age(rng), rng.getrandbits(60)
        timing, together = draw_timing(rng, profile.paces), rng.random() < (0.7 if profile.grouped >= 1.0 else 0.25)
        mixed = members > 2 and profile.grouped < 1.0 and rng.random() < 0.25  # an agency's customers
        found = []
        for rank in range(members):
            own = rng.choice(self._everyday) if mixed and rank and rng.random() < 0.6 else profile
            habits = lead if rank == 0 else cohesion.joined(rng, lead, draw_habits(rng))
            alike = members > 1 and own is profile and rng.random() < cohesion.content
            use = Use(
                code=own.code,
                corpus=corpus if alike else rng.choice(self.corpora),
                client=rng.choice(self.clients),
                habits=replace(habits, moves=_moves(rng)),
                timing=timing if together and own is profile else draw_timing(rng, own.paces),
                requests=0,
                seed=rng.getrandbits(60),
                pool_seed=pool_seed if alike else rng.getrandbits(60),
                breadth=rng.uniform(*own.breadth),
            )
            use = replace(use, requests=_volume(rng, own, use.client))
            found.append(self._ordinary(use, own, group, rank, members, founding, cohesion, lead, rng))
        return found

    def _ordinary(
        self, use: Use, profile: Profile, group: str, rank: int, members: int, founding: float, cohesion: Cohesion,
        lead: Habits, rng: random.Random,
    ) -> Plan:  # fmt: skip
        declared = profile.declared if rng.random() < profile.declared_share else None
        # Most caps have room for the busiest day; some are too small, and some end before the work does.
        days = max(1.0, use.timing.last - use.timing.first)
        return Plan(
            number=0,
            **vars(use),
            group=group,
            template=f"{profile.code} {use.client.name}",
            created_days_before=max(0.0, founding + rng.uniform(0, cohesion.signup_days)),
            payment=_payment(rng, group, rank, members, cohesion),
            signup_network=_signup_network(rng, lead, rank, members, cohesion),
            beside=self._uses(use, rng.choices(range(len(USES)), USES)[0], rng),
            declared=declared,
            declared_cap=None if declared is None else round(use.requests / days * rng.choice((0.5, 2, 5, 10)) + 20),
            declared_until=28.0 if rng.random() < 0.8 else rng.uniform(3, 28),
        )

    def _uses(self, main: Use, count: int, rng: random.Random) -> tuple[Use, ...]:
        """Draw further uses of an account: what it does beside its main one, for all of the month or for days."""
        shares = [profile.share for profile in self._everyday]
        return tuple(self._use(main, rng.choices(self._everyday, shares)[0], rng) for _ in range(count))

    def _use(self, main: Use, profile: Profile, rng: random.Random) -> Use:
        alike = [corpus for corpus in self.corpora if corpus.has_answers == main.corpus.has_answers]
        requests = round(main.requests * float(np.exp(rng.uniform(*np.log(BESIDE)))))
        return Use(
            code=profile.code,
            corpus=main.corpus if rng.random() < 0.5 else rng.choice(alike),
            client=main.client if rng.random() < 0.3 else rng.choice(self.clients),
            habits=of_another_use(rng, main.habits),
            timing=draw_timing(rng, profile.paces),
            requests=max(2, min(LARGEST // 5, requests)),
            seed=rng.getrandbits(60),
            pool_seed=rng.getrandbits(60),
            breadth=rng.uniform(*profile.breadth),
        )

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
        cover_share, spread = rng.uniform(*strategy.cover), rng.uniform(*MEMBER_SPREAD) if members > 1 else ALONE_SPREAD
        each = answers / members * min(2.0, 1 / (1 - cover_share))
        name = f"{strategy.code} {cell.name} #{number}"
        lead, founding, cohesion = draw_habits(rng), _age(rng), draw_cohesion(rng)
        timing, pool_seed = draw_timing(rng, strategy.paces, strategy.per_day, round(each)), rng.getrandbits(60)
        breadth = 1.0 if rng.random() < 0.6 else rng.uniform(0.1, 1.0)
        pacing = rng.choice(("together", "apart", "apart", "in turn"))
        overlap = rng.choice((0.0, 0.0, rng.uniform(0.0, 0.5), 1.0))
        plans = []
        for rank in range(members):
            habits = lead if rank == 0 else cohesion.joined(rng, lead, draw_habits(rng))
            own = {"together": timing, "in turn": in_turn(timing, rank, members)}.get(pacing) or moved(rng, timing)
            use = Use(
                code=strategy.code,
                corpus=corpus,
                client=rng.choice(self.clients),
                habits=replace(
                    habits, moves=strategy.moves + rng.random() if strategy.moves is not None else _moves(rng)
                ),
                timing=own,
                requests=max(1, round(each * float(np.exp(rng.gauss(-(spread**2) / 2, spread))))),
                seed=rng.getrandbits(60),
                pool_seed=pool_seed,
                breadth=breadth,
            )
            plan = Plan(
                number=0,
                **vars(use),
                group=name,
                template=name,
                created_days_before=max(0.0, founding + rng.uniform(0, cohesion.signup_days)),
                payment=_payment(rng, name, rank, members, cohesion),
                signup_network=_signup_network(rng, lead, rank, members, cohesion),
                cell=f"{strategy.code} {cell.name}",
                campaign=Campaign(members, rank, cover_share, lambda: iter(()), overlap),
                cover=self._use(use, rng.choice(self._everyday), rng),
                beside=self._uses(use, rng.choice((1, 1, 2)), rng) if rng.random() < OWN_LIFE else (),
            )
            plans.append(plan)
        return plans


def _volume(rng: random.Random, profile: Profile, client: Client) -> int:
    requests = client.volume * profile.volume * float(np.exp(rng.gauss(0, VOLUME_SPREAD) - VOLUME_SPREAD**2 / 2))
    if rng.random() < BULK:
        requests *= float(np.exp(rng.uniform(*np.log(BULK_FACTOR))))
    return max(SMALLEST, min(LARGEST, round(requests)))


def _group_size(rng: random.Random, profile: Profile) -> int:
    if profile.grouped >= 1.0:
        return rng.randint(*CLASS_SIZE)
    if rng.random() >= _chance_of_group(profile):
        return 1
    return rng.randint(*GROUP_SIZE) if rng.random() < 0.95 else rng.randint(GROUP_SIZE[1], 3 * GROUP_SIZE[1])


def _chance_of_group(profile: Profile) -> float:
    # Groups are large, so the chance that one begins is far smaller than the share of accounts in groups.
    members = sum(GROUP_SIZE) / 2
    return profile.grouped / (profile.grouped + members * (1 - profile.grouped))


def _mean_group_size(profile: Profile) -> float:
    if profile.grouped >= 1.0:
        return sum(CLASS_SIZE) / 2
    return 1 + _chance_of_group(profile) * (sum(GROUP_SIZE) / 2 - 1)


def _age(rng: random.Random) -> float:
    """Draw how many days before the month an account was made: the same for all."""
    return rng.expovariate(1 / 90) if rng.random() < 0.8 else 0.0


def _moves(rng: random.Random) -> float:
    """Draw the day on which an account takes up the newest model: within a day of its release, later, or never."""
    dice = rng.random()
    return 14.0 + (rng.random() if dice < 0.12 else rng.uniform(1, 14)) if dice < 0.45 else float("inf")


def _payment(rng: random.Random, group: str, rank: int, members: int, cohesion: Cohesion) -> str:
    shared = members > 1 and rng.random() < cohesion.payment
    return f"pay-{abs(hash_of(group if shared else f'{group}/{rank}')):016x}"


def _signup_network(rng: random.Random, lead: Habits, rank: int, members: int, cohesion: Cohesion) -> str:
    shared = rank == 0 or (members > 1 and rng.random() < cohesion.signup)
    own = rng.random() < 0.6
    return str(lead.client["network"]) if shared and own else network(rng)


def hash_of(text: str) -> int:
    """Return a number of 63 bits that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()) >> 1
