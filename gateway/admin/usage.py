"""Usage by account and model, added up from the lake."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter

from gateway.admin.access import House
from gateway.admin.schemas import UsageRow
from gateway.ledger.lake import Lake

router = APIRouter(prefix="/usage", tags=["usage"])

KEYS = ["account", "model", "model_role", "origin"]
COLUMNS = [*KEYS, "usage", "cost", "counterfactual_cost"]
SUMS = ["input_tokens", "output_tokens", "cost", "counterfactual_cost"]
ANSWERED = [200, 499]
Origin = Literal["live", "imported", "synthetic"]


@router.get("")
def show_usage(house: House, origin: Origin | None = None, account: str | None = None) -> list[UsageRow]:
    """Add up answered requests, tokens and cost by account, model and origin; of one origin or account where given.

    A request that nobody answered has no model of its own and is left out; one that its client left counts.
    Imported and synthetic rows never count as savings, so their origin keeps them apart.
    """
    chosen = pc.field("status").isin(ANSWERED)
    if origin is not None:
        chosen &= pc.field("origin") == origin
    if account is not None:
        chosen &= pc.field("account") == account
    table = Lake.of(house.settings).read(columns=COLUMNS, filter=chosen)
    return [UsageRow.model_validate(row) for row in add_up(table)]


def add_up(table: pa.Table) -> list[dict[str, Any]]:
    """Return one row per account, model and origin of a traffic table, largest cost first; absent figures are 0."""
    usage = table["usage"].combine_chunks()
    for name in ("input_tokens", "output_tokens"):
        table = table.append_column(name, pc.struct_field(usage, name))
    sums = table.group_by(KEYS).aggregate([([], "count_all"), *((name, "sum") for name in SUMS)])
    rows = [
        {key: row[key] for key in KEYS}
        | {"requests": row["count_all"]}
        | {name: row[f"{name}_sum"] or 0 for name in SUMS}
        for row in sums.to_pylist()
    ]
    return sorted(rows, key=lambda row: (-int(row["cost"]), row["account"], row["model"]))
