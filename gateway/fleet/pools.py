"""Pools: the backends of one model, and which of them gets a request; the fleet: all pools and backends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gateway.errors import NoBackend, UpstreamBusy
from gateway.fleet.affinity import prefix_slot, score
from gateway.fleet.backends import Backend
from gateway.fleet.budget import MOST_ATTEMPTS, RetryBudget
from gateway.fleet.providers import Provider
from gateway.protocol.requests import InferenceRequest
from gateway.settings import BackendSettings, Balance, ModelSettings, read_secret, root_of

# Bounded load (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", SODA 2018): a server that
# has this much more than its share of the open work passes on to the next in the prefix's order.
BOUND = 1.25
# But not while it has fewer open requests than this: they run as one batch, and a cold cache costs more than that.
SLACK = 4.0


@dataclass(frozen=True, slots=True)
class Member:
    """A backend as one model lists it. Tiers above 0 stand in when no backend of a lower one is available."""

    backend: Backend
    weight: float = 1.0
    tier: int = 0


Option = tuple[Member, float]  # with the weight that it has at this moment


class _Tier:
    """The members of one tier, and the order in which a slot of prefixes prefers them, made when it is first asked."""

    __slots__ = ("_orders", "backends", "options")

    def __init__(self, members: Sequence[Member]) -> None:
        self.options: list[Option] = [(member, member.weight) for member in members]
        self.backends = [member.backend for member in members]
        self._orders: dict[int, list[Option]] = {}

    def is_clear(self) -> bool:
        """Is nothing the matter with any of them? This is the common path."""
        for backend in self.backends:  # noqa: SIM110  (a generator costs more than all the rest)
            if not backend.clear:
                return False
        return True

    def order(self, slot: int) -> list[Option]:
        """Return the members, the one that the slot belongs to first."""
        order = self._orders.get(slot)
        if order is None:
            order = self._orders[slot] = _in_order(self.options, slot)
        return order


class Pool:
    """The backends that serve one model under `served_name`. `pick` gives numbers below 1 at random."""

    def __init__(
        self,
        served_name: str,
        members: Sequence[Member],
        balance: Balance = "affinity",
        budget: RetryBudget | None = None,
        pick: Callable[[], float] = random.random,
        provider: Provider | None = None,
    ) -> None:
        self.provider = provider  # who is asked instead of a URL
        self.served_name = served_name
        self.members = tuple(sorted(members, key=lambda member: member.tier))
        self.backends = tuple(member.backend for member in self.members)
        self.budget = budget or RetryBudget()
        self._affine = balance == "affinity"
        self._pick = pick
        self._tiers = [
            _Tier([member for member in self.members if member.tier == tier])
            for tier in sorted({member.tier for member in self.members})
        ]
        self._most = min(MOST_ATTEMPTS, max(2, len(self.members)))

    @property
    def ready(self) -> bool:
        """Could a request be sent anywhere now?"""
        return any(backend.clear or backend.share() > 0.0 or backend.serves_at_worst for backend in self.backends)

    def attempts(self, request: InferenceRequest | None = None) -> Iterator[Backend]:
        """Yield the backends to try; each but the first is a retry and needs room in the budget.

        One that is alone comes twice where it broke off: that may have been a connection that was just closing. Raises
        `NoBackend` when none is up, `UpstreamBusy` when those that are up want to be left alone, with the true time.
        """
        self.budget.deposit()
        chosen = self.choose(request)
        if chosen is None:
            raise self._nobody()
        yield chosen.backend
        tried = [chosen]
        while len(tried) < self._most:
            following = self.choose(request, tried)
            # Who has answered, only not well, would not be helped by being asked again at once.
            if following is None or (following in tried and not following.backend.broke_off):
                return
            if not self.budget.withdraw():
                return
            tried.append(following)
            yield following.backend

    def choose(self, request: InferenceRequest | None, tried: Sequence[Member] = ()) -> Member | None:
        """Return the backend for a request, one not yet tried where there is one; None when none is available."""
        calm = self._tiers[0] if self._tiers and not tried and self._tiers[0].is_clear() else None
        options = calm.options if calm is not None else self._options(tried)
        if len(options) < 2:
            return options[0][0] if options else None
        slot = prefix_slot(request) if self._affine and request is not None else None
        if slot is None:
            return self._two_choices(options)
        return _not_too_full(calm.order(slot) if calm is not None else _in_order(options, slot))

    def _options(self, tried: Sequence[Member]) -> list[Option]:
        """Return the available backends of the lowest tier that has any."""
        fallen: list[Option] = []  # available, but tried
        for tier in self._tiers:
            found = [(m, weight * share) for m, weight in tier.options if (share := m.backend.share()) > 0.0]
            fresh = [option for option in found if option[0] not in tried]
            if fresh:
                return fresh
            fallen += found
        at_worst = [(member, member.weight) for member in self.members if member.backend.serves_at_worst]
        return [option for option in at_worst if option[0] not in tried] or fallen or at_worst

    def _two_choices(self, options: Sequence[Option]) -> Member:
        """Take the one with less work of two at random (Mitzenmacher): the least busy of all would get every herd."""
        count = len(options)
        first = int(self._pick() * count)
        second = int(self._pick() * (count - 1))
        one, other = options[first], options[second + (second >= first)]
        return one[0] if _load(one) <= _load(other) else other[0]

    def _nobody(self) -> NoBackend | UpstreamBusy:
        waits = [backend.busy_s for backend in self.backends if backend.up and not backend.drained]
        waits = [wait for wait in waits if wait > 0.0]
        if waits:
            return UpstreamBusy("The model's servers are busy: try again shortly.", retry_after=min(waits))
        return NoBackend(f"No server of the model '{self.served_name}' is up: try again shortly.")


def _load(option: Option) -> float:
    member, weight = option
    return (member.backend.inflight + member.backend.others + 1) / weight


def _in_order(options: Sequence[Option], slot: int) -> list[Option]:
    return sorted(options, key=lambda option: score(slot, option[0].backend.seed, option[1]), reverse=True)


def _not_too_full(order: Sequence[Option]) -> Member:
    """Take the first, or the next in order that is not too full."""
    member, weight = order[0]
    backend = member.backend
    if backend.inflight + backend.others < SLACK * min(1.0, weight) and not backend.crowded:
        return member
    open_work = 1.0 + sum([option[0].backend.inflight + option[0].backend.others for option in order])
    per_weight = BOUND * open_work / sum([weight for _, weight in order])
    for member, weight in order:
        bound = max(SLACK * min(1.0, weight), per_weight * weight)
        if member.backend.inflight + member.backend.others < bound and not member.backend.crowded:
            return member
    # Only where crowded ones are left out can all be over the bound.
    return min(order, key=_load)[0]


@dataclass
class Fleet:
    """All backends by URL, so that models that share a server share what is known of it."""

    backends: dict[str, Backend] = field(default_factory=dict)
    provided: dict[str, Backend] = field(default_factory=dict)  # models of providers, which nobody polls
    budgets: dict[str, RetryBudget] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()

    def pool(self, served_name: str, servers: Iterable[str | BackendSettings], balance: Balance = "affinity") -> Pool:
        """Return the pool of a model, with the backends known already or new ones."""
        budget = self.budgets.setdefault(served_name, RetryBudget())
        return Pool(served_name, [self._member(server) for server in servers], balance, budget)

    def provided_pool(self, model: ModelSettings) -> Pool:
        """Return the pool of a model that a provider serves; `SettingsError` where what it needs is missing."""
        key = read_secret(model.api_key_env) if model.api_key_env else ""
        provider = Provider(model.provider, model.name, model.api_base, key)
        backend = self.provided.setdefault(model.name, Backend(f"provider:{model.name}"))
        budget = self.budgets.setdefault(model.name, RetryBudget())
        return Pool(model.name, [Member(backend)], budget=budget, provider=provider)

    def drain(self, urls: Iterable[str]) -> None:
        """Take exactly these backends out, whether they are known yet or not."""
        self.drained = frozenset(map(root_of, urls))
        for backend in list(self.backends.values()):
            backend.drain(backend.url in self.drained)

    def keep(self, pools: Iterable[Pool]) -> None:
        """Forget the backends and budgets that no model uses any more."""
        kept = list(pools)
        used, names = {url.url for pool in kept for url in pool.backends}, {pool.served_name for pool in kept}
        self.backends = {url: backend for url, backend in self.backends.items() if url in used}
        self.provided = {name: backend for name, backend in self.provided.items() if name in names}
        self.budgets = {name: budget for name, budget in self.budgets.items() if name in names}

    def _member(self, server: str | BackendSettings) -> Member:
        listed = BackendSettings(server) if isinstance(server, str) else server
        url = root_of(listed.url)
        backend = self.backends.get(url)
        if backend is None:
            backend = self.backends[url] = Backend(url)
            backend.drain(url in self.drained)
        return Member(backend, listed.weight, listed.tier)
