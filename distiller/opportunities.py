"""Which traffic of the teacher's is worth a student: clusters ranked by what may be saved, learnt and used.

A cluster is a task as `select` knows it, one endpoint and prompt skeleton. Its score is the teacher's cost a day × the
price gap × how well a student is likely to learn it × how much of it may be used, so money a day that is likely to be
saved. Each factor stands beside it, because each is an estimate:

- **price gap**: 1 − the median ratio of the house's students' prices to their teachers'; assumed where there is none.
- **adequate**: the share of newer requests that lie within the distance fitted on older ones, as `auto` would ask.
- **predictable**: how far the answer of the nearest earlier request already is the answer (F1 of words), above what any
  earlier answer gives by chance. What that says little of (long free text) a student seldom learns well.
- **usable**: the share of requests that nothing in the rules of the data speaks against.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from distiller.evaluation import normalised
from distiller.rows import Row
from distiller.selection import COLUMNS, ENDPOINT, Rights, rights_now, sift, to_row
from gateway.ledger import registry
from gateway.ledger.distance import Distance
from gateway.ledger.errors import InvalidValue
from gateway.ledger.fingerprint import embedding
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.traffic import from_row
from gateway.settings import ModelSettings, Settings

ASSUMED_GAP = 0.6
SAMPLE = 1500
LEAST = 100  # requests; fewer say nothing
EXAMPLES = 3
DAYS = 30


@dataclass(frozen=True)
class Opportunity:
    """A cluster. Money is nano-dollars a day; `saved_a_day` is what a student of the task has saved, to compare with.

    `sampled` requests were looked at, the newest; `examples` are ids of some, as `select --like` takes them.
    """

    skeleton: str
    teacher: str
    requests_a_day: float
    cost_a_day: int
    price_gap: float
    adequate: float
    predictable: float
    usable: float
    estimate_a_day: int
    saved_a_day: int
    sampled: int
    left_out: dict[str, int]
    examples: tuple[str, ...]

    def as_row(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)


def opportunities(
    settings: Settings, connection: sa.Connection, lake: Lake, days: int = DAYS, most: int = 10
) -> list[Opportunity]:
    """Return the clusters of the last days, the most promising first, of at least `LEAST` requests each."""
    since = now() - timedelta(days=days)
    gap = price_gap(settings, connection)
    found = []
    for cluster in _largest(lake, since, most * 2):
        teacher = settings.model(cluster["model"])
        if teacher is not None and teacher.distillable:
            rights = rights_now(connection, teacher)
            found.append(_judge(lake, since, days, cluster, teacher, rights, gap))
    return sorted(found, key=lambda one: -one.estimate_a_day)[:most]


def price_gap(settings: Settings, connection: sa.Connection) -> float:
    """Return how much less a student costs than its teacher, as a share: the median of those that were measured."""
    ratios = []
    for student in registry.every(connection):
        teacher = settings.model(student.teacher)
        if teacher is not None and student.output_price is not None and teacher.nano_prices[1]:
            ratios.append(student.output_price / teacher.nano_prices[1])
    return max(0.0, 1 - statistics.median(ratios)) if ratios else ASSUMED_GAP


def predictability(rows: Sequence[Row]) -> float:
    """Return how far the nearest earlier request's answer is the answer, above chance; 0 to 1.

    Every newer half's row is compared with the older half: by the F1 of words with the answer of the nearest, less that
    with an answer drawn from the middle of the others.
    """
    middle = len(rows) // 2
    if middle < 2:
        return 0.0
    vectors = np.stack([embedding(row.text).astype(np.float32) for row in rows])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    nearest = (vectors[middle:] @ vectors[:middle].T).argmax(axis=1)
    answers = [Counter(normalised(row.answer).split()) for row in rows]
    newer = answers[middle:]
    hits = statistics.mean(_f1(answers[place], own) for place, own in zip(nearest, newer, strict=True))
    chance = statistics.mean(_f1(answers[place % middle], own) for place, own in enumerate(newer))
    return max(0.0, (hits - chance) / (1 - chance)) if chance < 1 else 1.0


def adequate_share(texts: Sequence[str]) -> float:
    """Return the share of the newest third of the texts that lies within the distance fitted on the others."""
    third = len(texts) // 3
    try:
        distance = Distance.fit(texts[:third]).calibrated(texts[third : 2 * third])
    except InvalidValue:
        return 0.0
    newest = texts[2 * third :]
    return sum(distance.distance(text) <= distance.threshold for text in newest) / len(newest)


def _largest(lake: Lake, since: datetime, most: int) -> Iterator[dict[str, Any]]:
    """Yield the teacher's most expensive clusters: skeleton, model, requests and cost."""
    recent = (pc.field("time") >= millisecond(since)) & (pc.field("endpoint") == ENDPOINT)
    wanted = recent & (pc.field("model_role") == "teacher") & pc.field("skeleton").is_valid()
    table: pa.Table = lake.read(["skeleton", "model", "cost"], wanted)
    groups = table.group_by(["skeleton", "model"]).aggregate([("cost", "sum"), ("cost", "count")])
    for group in groups.sort_by([("cost_sum", "descending")]).slice(0, most).to_pylist():
        if group["cost_count"] >= LEAST:
            yield group


def _judge(
    lake: Lake,
    since: datetime,
    days: int,
    cluster: dict[str, Any],
    teacher: ModelSettings,
    rights: Rights,
    gap: float,
) -> Opportunity:
    mine = (pc.field("skeleton") == cluster["skeleton"]) & (pc.field("time") >= millisecond(since))
    table = lake.read(COLUMNS, mine & (pc.field("model") == teacher.name))
    newest = table.sort_by([("time", "descending")]).slice(0, SAMPLE)
    records = [from_row(row) for row in newest.to_pylist()][::-1]
    kept, left_out = sift(records, rights)
    readable = [to_row(record) for record in records if _is_readable(record)]
    adequate = adequate_share([row.text for row in readable])
    predictable, usable = predictability(readable), len(kept) / max(1, len(records))
    cost = int(cluster["cost_sum"] or 0) // days
    return Opportunity(
        skeleton=cluster["skeleton"],
        teacher=teacher.name,
        requests_a_day=round(cluster["cost_count"] / days, 1),
        cost_a_day=cost,
        price_gap=round(gap, 3),
        adequate=round(adequate, 3),
        predictable=round(predictable, 3),
        usable=round(usable, 3),
        estimate_a_day=int(cost * gap * adequate * predictable * usable),
        saved_a_day=_saved(lake, mine) // days,
        sampled=len(records),
        left_out=dict(left_out),
        examples=tuple(row.id for row in kept[-EXAMPLES:]),
    )


def _is_readable(record: dict[str, Any]) -> bool:
    return bool(record.get("messages")) and isinstance((record.get("response") or {}).get("content"), str)


def _saved(lake: Lake, mine: pc.Expression) -> int:
    """Return what students saved on a task, in nano-dollars: what the teacher would have cost less what they did."""
    table = lake.read(["cost", "counterfactual_cost"], mine & (pc.field("model_role") == "student"))
    would, did = (pc.sum(table[name]).as_py() or 0 for name in ("counterfactual_cost", "cost"))
    return int(would - did)


def _f1(one: Counter[str], other: Counter[str]) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 1.0
