"""From a plan to traffic records: what was asked and when, in the documented form, and which requests harvested."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.evaluation.asking import Ask, Tenant
from detector.evaluation.content import Corpus, Item, Pool
from detector.evaluation.habits import NEWEST, Habits
from detector.evaluation.pacing import DAY_MS, lay_out
from detector.evaluation.planning import Plan, Use, World, hash_of
from detector.evaluation.traces import DAYS, strictly_increasing

START = datetime(2026, 11, 2, tzinfo=UTC)  # a Monday
START_S = START.timestamp()
_DATES = [(START + timedelta(days=day)).date().isoformat() for day in range(DAYS + 2)]
CACHE_BLOCK = 16  # tokens: vLLM's prefix cache counts in blocks
PRICE_IN, PRICE_OUT = 1000, 3000  # nano-dollars a token
Record = dict[str, Any]


@dataclass(frozen=True)
class History:
    """One account's month: its records in event time, and which of them harvested (the truth, never in a record)."""

    plan: Plan
    records: list[Record]
    harvest: npt.NDArray[np.bool_]

    def lines(self) -> Iterator[str]:
        """Yield the records as JSON Lines."""
        return (json.dumps(record, ensure_ascii=False) for record in self.records)


def account_line(plan: Plan) -> str:
    """Return the account as a line of `spiritsafe accounts import`."""
    created = START - timedelta(days=plan.created_days_before)
    until = (START + timedelta(days=plan.declared_until)).isoformat()
    uses = [] if plan.declared is None else [{"use": plan.declared, "cap_per_day": plan.declared_cap, "until": until}]
    row = {"account": plan.account, "created": created.isoformat(), "payment": plan.payment,
           "signup_network": plan.signup_network, "declared_uses": uses}  # fmt: skip
    return json.dumps(row)


@dataclass(frozen=True)
class _Strand:
    """One use of an account at work: who asks, what, and whether it belongs to a harvest."""

    tenant: Tenant
    asks: Iterator[Ask]
    requests: int
    harvests: bool


def simulate(plan: Plan, world: World) -> History:
    """Make an account's history; the same plan makes the same one."""
    strands = [_main(plan, world), *(_ordinary(use, world) for use in plan.beside)]
    times, owner = _times(plan)
    records: list[Record] = []
    harvest = np.zeros(len(times), dtype=bool)
    cache, done = _Cache(), [0] * len(strands)
    for number, (time, place) in enumerate(zip(times.tolist(), owner.tolist(), strict=True)):
        strand = strands[place]
        strand.tenant.day, strand.tenant.progress = time / DAY_MS, done[place] / strand.requests
        done[place] += 1
        ask = next(strand.asks)
        harvest[number] = strand.harvests and not ask.cover
        records.append(_record(plan, strand.tenant, ask, time, number, cache))
    return History(plan, records, harvest)


def _times(plan: Plan) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the account's times and which of its uses each belongs to, 0 being the main one."""
    uses: tuple[Plan | Use, ...] = (plan, *plan.beside)
    parts = [lay_out(use.timing, use.client, use.requests, np.random.default_rng(use.seed)) for use in uses]
    times, owner = np.concatenate(parts), np.repeat(np.arange(len(uses)), [use.requests for use in uses])
    order = np.argsort(times, kind="stable")
    return strictly_increasing(times[order]), owner[order]


def _main(plan: Plan, world: World) -> _Strand:
    walk = plan.is_attack and world.strategy(plan.code).walk
    tenant = _tenant(plan, _items(plan), plan.campaign.rank if plan.campaign else 0, walk)
    if plan.campaign is None:
        return _Strand(tenant, world.profile(plan.code).asks(tenant), plan.requests, False)
    campaign = replace(plan.campaign, cover=lambda: _cover(plan, tenant, world))
    return _Strand(tenant, world.strategy(plan.code).asks(tenant, campaign), plan.requests, True)


def _ordinary(use: Use, world: World) -> _Strand:
    tenant = _tenant(use, _narrowed(use.corpus, random.Random(use.pool_seed), use.breadth))
    return _Strand(tenant, world.profile(use.code).asks(tenant), use.requests, False)


def _cover(plan: Plan, tenant: Tenant, world: World) -> Iterator[Ask]:
    if plan.cover is None:
        raise ValueError(f"{plan.code} has no ordinary use to hide behind: give its plan a cover")
    strand = _ordinary(plan.cover, world)
    for ask in strand.asks:
        strand.tenant.day, strand.tenant.progress = tenant.day, tenant.progress
        yield replace(ask, cover=True, by=strand.tenant.habits)


def _tenant(use: Plan | Use, items: list[Item], rank: int = 0, walk: bool = False) -> Tenant:
    pool = Pool(random.Random(f"{use.pool_seed} {rank} {use.seed}"), items, walk)
    return Tenant(random.Random(use.seed), use.corpus, use.client, use.habits, pool)


def _items(plan: Plan) -> list[Item]:
    items = _narrowed(plan.corpus, random.Random(plan.pool_seed), plan.breadth)
    if plan.campaign is None or plan.campaign.members == 1:
        return items
    # The members split the campaign's pool; each has its own shard, in its own order, beside what all of them ask.
    shuffled = random.Random(plan.pool_seed).sample(items, len(items))
    common = round(plan.campaign.overlap * min(plan.requests, len(shuffled)))
    own = shuffled[common:][plan.campaign.rank :: plan.campaign.members]
    shard = [*shuffled[:common], *own[: max(0, plan.requests - common)]]
    return shard or [shuffled[plan.campaign.rank % len(shuffled)]]


def _narrowed(corpus: Corpus, rng: random.Random, breadth: float) -> list[Item]:
    kept = set(rng.sample(corpus.topics, max(1, round(breadth * len(corpus.topics)))))
    return [item for item in corpus.items if item.topic in kept]


class _Cache:
    """The prefixes that were sent already, as the server's prefix cache would know them."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def tokens(self, texts: list[str]) -> int:
        """Return how many leading tokens were sent before, in whole blocks, and remember these texts."""
        prefix, length, known = 0, 0, 0
        for text in texts:
            prefix, length = hash_of(f"{prefix} {text}"), length + len(text)
            if prefix in self._seen:
                known = length
            self._seen.add(prefix)
        return known // 4 // CACHE_BLOCK * CACHE_BLOCK


def _record(plan: Plan, tenant: Tenant, ask: Ask, time: int, number: int, cache: _Cache) -> Record:
    rng, habits = tenant.rng, ask.by or tenant.habits
    texts = [message["content"] for message in ask.messages]
    failed = rng.random() < habits.failures
    output = 0 if failed else ask.output
    characters = sum(map(len, texts))
    record: Record = {
        "id": f"{hash_of(f'{plan.seed} {number}'):016x}",
        "time": _rfc3339(time),
        "origin": "synthetic",
        "account": plan.account,
        "endpoint": habits.endpoint if ask.endpoint == "chat.completions" else ask.endpoint,
        **_answering(habits, tenant.day, rng.random()),
        "parameters": ask.parameters,
        "turns": sum(message["role"] == "user" for message in ask.messages),
        "usage": {
            "input_tokens": characters // 4 + 6 * len(texts),
            "output_tokens": output,
            "reasoning_tokens": round(output * rng.uniform(0.5, 0.9)) if tenant.client.reasoning else 0,
            "cached_tokens": cache.tokens(texts),
            "source": "exact",
        },
        "status": rng.choice((429, 429, 500, 503, 499)) if failed else 200,
        "latency_ms": round(80 + output * rng.uniform(8, 30), 1),
        "cost": characters // 4 * PRICE_IN + output * PRICE_OUT,
        "client": habits.clients(tenant.day),
    }
    user = ask.user or (f"u{min(rng.randrange(habits.end_users), rng.randrange(habits.end_users))}"
                        if habits.end_users else None)  # fmt: skip
    if user is not None:
        record["user"] = user
    if record["endpoint"] in ("embeddings", "completions"):
        record["prompt"] = "\n\n".join(texts)
    else:
        record["messages"] = ask.messages
    if ask.endpoint != "embeddings" and not failed:
        record["finish_reason"] = "length" if output == ask.parameters.get("max_tokens") else "stop"
    if ask.tools and record["endpoint"] != "completions":
        record["tools"] = list(ask.tools)
    if ask.answer is not None and not failed:
        record["response"] = {"content": ask.answer[: 4 * output], "choices": ask.parameters.get("n", 1)}
    return record


def _answering(habits: Habits, day: float, dice: float) -> dict[str, str]:
    asked = NEWEST if day >= habits.moves else habits.model
    if dice < habits.student_share:
        return {"model_requested": "auto", "model": "student", "model_role": "student"}
    return {"model_requested": asked, "model": asked, "model_role": "teacher"}


def _rfc3339(time: int) -> str:
    seconds, milliseconds = divmod(time, 1000)
    day, seconds = divmod(seconds, 86_400)
    return f"{_DATES[day]}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}+00:00"
