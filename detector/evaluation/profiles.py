"""What a benign look-alike and an attack strategy are: who they are, how they pace themselves, what they ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from detector.evaluation.asking import Ask, Tenant

# How requests lie in the month: over all of it after the client's own curve, within a window of days, every night at an
# hour of the account's own, or evenly for weeks.
Paces = Mapping[str, float]
RELEASE_DAY = 14.0  # of the month: a new model comes, to which accounts move
ORDINARY: Paces = {"whole": 0.43, "window": 0.42, "nightly": 0.05, "drip": 0.1}
# Harvesters have cover and a life of their own beside the harvest, which makes their accounts longer than one use is.
STEADY: Paces = {"whole": 0.58, "window": 0.24, "nightly": 0.06, "drip": 0.12}


@dataclass(frozen=True)
class Profile:
    """A benign look-alike. `share` is its weight among benign accounts, `breadth` the share of topics it asks about.

    `volume` multiplies the client's requests, `declared` is a use that `declared_share` of its accounts have in the
    register, and `grouped` is the share that belongs to a group (one network, one sign-up, one template).
    """

    code: str
    name: str
    asks: Callable[[Tenant], Iterator[Ask]]
    share: float = 1.0
    volume: float = 1.0
    breadth: tuple[float, float] = (0.02, 0.4)
    paces: Paces = field(default_factory=lambda: STEADY)
    declared: str | None = None
    declared_share: float = 0.0
    grouped: float = 0.5


@dataclass(frozen=True)
class Cell:
    """A strategy at a size: `accounts` in a campaign and its `budget` in answers."""

    accounts: int
    budget: int

    @property
    def name(self) -> str:
        """Such as `10×20k`."""
        return f"{self.accounts}×{self.budget // 1000}k"


@dataclass(frozen=True)
class Campaign:
    """What a member of a campaign knows of it: its rank among the members, and ordinary use to hide behind.

    `overlap` is the share of the campaign's pool that all members ask about; the rest is split among them.
    """

    members: int
    rank: int
    cover_share: float
    cover: Callable[[], Iterator[Ask]]
    overlap: float = 0.0


@dataclass(frozen=True)
class Strategy:
    """An attack. `cover` is the range of the share of ordinary use in a campaign; `walk` draws the pool by topic.

    `per_day`: requests a day and account (lowest, highest), where the strategy keeps to a rate; `moves`: the day from
    which all members use the newest model, where the strategy says so.
    """

    code: str
    name: str
    asks: Callable[[Tenant, Campaign], Iterator[Ask]]
    cells: tuple[Cell, ...]
    cover: tuple[float, float] = (0.0, 0.0)
    paces: Paces = field(default_factory=lambda: ORDINARY)
    walk: bool = False
    per_day: tuple[float, float] | None = None
    moves: float | None = None
