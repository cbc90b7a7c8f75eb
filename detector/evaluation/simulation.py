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
from detector.evaluation.planning import Plan, Timing, World, hash_of
from detector.evaluation.profiles import RELEASE_DAY
from detector.evaluation.traces import DAYS, Client, strictly_increasing

START = datetime(2026, 11, 2, tzinfo=UTC)  # a Monday
START_S = START.timestamp()
DAY_MS = 86_400_000
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
    until = (START + timedelta(days=DAYS)).isoformat()
    uses = [] if plan.declared is None else [{"use": plan.declared, "until": until}]
    row = {"account": plan.account, "created": created.isoformat(), "payment": plan.payment,
           "signup_network": plan.signup_network, "declared_uses": uses}  # fmt: skip
    return json.dumps(row)


def simulate(plan: Plan, world: World) -> History:
    """Make an account's history; the same plan makes the same one."""
    walk = plan.is_attack and world.strategy(plan.code).walk
    tenant = _tenant(plan, plan.corpus, plan.seed, _items(plan), walk)
    asks = _asks(plan, tenant, world)
    times = _times(plan, np.random.default_rng(plan.seed))
    records: list[Record] = []
    harvest = np.zeros(len(times), dtype=bool)
    known = _Cache()
    for number, time in enumerate(times.tolist()):
        tenant.day, tenant.progress = time / DAY_MS, number / len(times)
        ask = next(asks)
        harvest[number] = plan.is_attack and not ask.cover
        records.append(_record(plan, tenant, ask, time, number, known))
    return History(plan, records, harvest)


def _asks(plan: Plan, tenant: Tenant, world: World) -> Iterator[Ask]:
    if plan.campaign is None:
        return world.profile(plan.code).asks(tenant)
    campaign = replace(plan.campaign, cover=lambda: _cover(plan, tenant))
    return world.strategy(plan.code).asks(tenant, campaign)


def _cover(plan: Plan, tenant: Tenant) -> Iterator[Ask]:
    if plan.cover is None or plan.cover_corpus is None:
        raise ValueError(f"{plan.code} has no ordinary use to hide behind: give its plan a cover")
    items = _narrowed(plan.cover_corpus, random.Random(plan.seed), 0.3)
    other = _tenant(plan, plan.cover_corpus, plan.seed + 1, items)
    for ask in plan.cover.asks(other):
        other.day, other.progress = tenant.day, tenant.progress
        yield replace(ask, cover=True)


def _tenant(plan: Plan, corpus: Corpus, seed: int, items: list[Item], walk: bool = False) -> Tenant:
    rng = random.Random(seed)
    pool = Pool(random.Random(plan.pool_seed + (plan.campaign.rank if plan.campaign else 0)), items, walk)
    return Tenant(rng, corpus, plan.client, plan.habits, pool)


def _items(plan: Plan) -> list[Item]:
    items = _narrowed(plan.corpus, random.Random(plan.pool_seed), plan.breadth)
    if plan.campaign is None or plan.campaign.members == 1:
        return items
    # The members split the campaign's pool; each has its own shard, in its own order.
    shuffled = random.Random(plan.pool_seed).sample(items, len(items))
    shard = shuffled[plan.campaign.rank :: plan.campaign.members]
    return shard or [shuffled[plan.campaign.rank % len(shuffled)]]


def _narrowed(corpus: Corpus, rng: random.Random, breadth: float) -> list[Item]:
    topics = sorted({item.topic for item in corpus.items})
    kept = set(rng.sample(topics, max(1, round(breadth * len(topics)))))
    return [item for item in corpus.items if item.topic in kept]


def _times(plan: Plan, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    timing = plan.timing
    if timing.pace == "nightly":
        return _nightly(plan.requests, timing, rng)
    if timing.pace == "drip":
        days = rng.uniform(timing.first, timing.last, plan.requests)
        hours = _hours(plan.client, rng, plan.requests)
        return strictly_increasing(np.sort(((days.astype(np.int64) + hours) * DAY_MS).astype(np.int64)))
    return plan.client.times(rng, plan.requests, timing.first, timing.last)


def _nightly(count: int, timing: Timing, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    nights = np.arange(int(timing.first), max(int(timing.first) + 1, int(timing.last)))
    day = np.sort(rng.choice(nights, count))
    seconds = min(timing.hour, 22.4) * 3600 + rng.uniform(0, 5400, count)  # the last night ends within the month
    return strictly_increasing(np.sort(day * DAY_MS + (seconds * 1000).astype(np.int64)))


def _hours(client: Client, rng: np.random.Generator, count: int) -> npt.NDArray[np.float64]:
    by_bin = client.rates.reshape(14, -1).sum(axis=0) + 1e-12
    return np.asarray((rng.choice(len(by_bin), count, p=by_bin / by_bin.sum()) + rng.random(count)) / len(by_bin))


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
    rng = tenant.rng
    texts = [message["content"] for message in ask.messages]
    failed = rng.random() < plan.habits.failures
    output = 0 if failed else ask.output
    model = "teacher-2" if tenant.day >= RELEASE_DAY and plan.seed % 10 < 3 else "teacher"
    record: Record = {
        "id": f"{hash_of(f'{plan.seed} {number}'):016x}",
        "time": (START + timedelta(milliseconds=time)).isoformat(timespec="milliseconds"),
        "origin": "synthetic",
        "account": plan.account,
        "user": ask.user,
        "endpoint": ask.endpoint,
        "model_requested": model,
        "model": model,
        "model_role": "teacher",
        "parameters": ask.parameters,
        "turns": sum(message["role"] == "user" for message in ask.messages),
        "usage": {
            "input_tokens": sum(map(len, texts)) // 4 + 6 * len(texts),
            "output_tokens": output,
            "reasoning_tokens": round(output * rng.uniform(0.5, 0.9)) if tenant.client.reasoning else 0,
            "cached_tokens": cache.tokens(texts),
            "source": "exact",
        },
        "status": rng.choice((429, 500, 503)) if failed else 200,
        "latency_ms": round(80 + output * rng.uniform(8, 30), 1),
        "cost": sum(map(len, texts)) // 4 * PRICE_IN + output * PRICE_OUT,
        "client": plan.habits.client,
    }
    if ask.endpoint == "embeddings":
        record["prompt"] = texts[0]
    else:
        record["messages"] = ask.messages
        record["finish_reason"] = None if failed else "length" if output == ask.parameters.get("max_tokens") else "stop"
    if ask.tools:
        record["tools"] = list(ask.tools)
    if ask.answer is not None and not failed:
        record["response"] = {"content": ask.answer[: 4 * output], "choices": ask.parameters.get("n", 1)}
    return {name: value for name, value in record.items() if value is not None}
