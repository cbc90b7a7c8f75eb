"""Which model the detector alerts by: the one that a person adopted last, or the shipped one where none was.

A model is bytes here, under the id that the detector gives it. What was replaced is kept, so that it can come back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from gateway.ledger import audit, operators
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import InvalidValue, NotFound
from gateway.ledger.identifiers import now

table = sa.Table(
    "detector_models",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("adopted", UtcTime),
    sa.Column("replaced", sa.String),
    sa.Column("operator", sa.String),
    sa.Column("note", sa.String),
)


@dataclass(frozen=True)
class DetectorModel:
    """A model: `adopted` when it was last put in charge (None: only ever replaced), in whose place (`replaced`)."""

    id: str
    content: bytes = field(repr=False)
    adopted: datetime | None = None
    replaced: str | None = None
    operator: str | None = None
    note: str | None = None


def in_charge(connection: sa.Connection) -> DetectorModel | None:
    """Return the model that was adopted last; None: the shipped one is in charge."""
    newest = newest_adopted(connection)
    return None if newest is None else get(connection, newest)


def newest_adopted(connection: sa.Connection) -> str | None:
    """Return the id of the model that was adopted last; None where none was."""
    query = sa.select(table.c.id).where(table.c.adopted.is_not(None)).order_by(table.c.adopted.desc()).limit(1)
    found: str | None = connection.execute(query).scalar()
    return found


def get(connection: sa.Connection, model_id: str) -> DetectorModel:
    """Return one model; `NotFound` when there is none of that id."""
    row = connection.execute(sa.select(table).where(table.c.id == model_id)).one_or_none()
    if row is None:
        raise NotFound(f"the control plane keeps no detector's model {model_id}: `spiritsafe audit list` has its story")
    return DetectorModel(**row._mapping)


def previous(connection: sa.Connection) -> DetectorModel:
    """Return the model that the one in charge replaced; `NotFound` where none was ever adopted."""
    newest = in_charge(connection)
    if newest is None or newest.replaced is None:
        raise NotFound("the shipped model is in charge and replaced none: there is nothing to go back to")
    return get(connection, newest.replaced)


def adopt(
    connection: sa.Connection,
    model: DetectorModel,
    replaced: DetectorModel,
    operator: str,
    note: str,
    detail: dict[str, Any],
) -> DetectorModel:
    """Put a model in charge by a person's decision, and keep what it replaces.

    `detail` is what the decision rests on, for the audit. `InvalidValue` without a note or where it is in charge
    already, `NotFound` for an operator that nobody made.
    """
    if not note.strip():
        raise InvalidValue("adopting a model needs a note: say why in a sentence, it is what an audit will read")
    if model.id == replaced.id:
        raise InvalidValue(f"model {model.id} is in charge already")
    if operator not in {known.name for known in operators.every(connection)}:
        raise NotFound(f"no operator is called {operator!r}: `spiritsafe operators create` makes one")
    if not _is_kept(connection, replaced.id):
        connection.execute(sa.insert(table).values(id=replaced.id, content=replaced.content))
    connection.execute(sa.delete(table).where(table.c.id == model.id))
    adopted = DetectorModel(model.id, model.content, now(), replaced.id, operator, note)
    connection.execute(sa.insert(table).values(**vars(adopted)))
    audit.record(
        connection, operator, "detector.adopt", model.id, before={"model": replaced.id}, after={"model": model.id},
        reason=note, **detail,
    )  # fmt: skip
    return adopted


def _is_kept(connection: sa.Connection, model_id: str) -> bool:
    return connection.execute(sa.select(table.c.id).where(table.c.id == model_id)).one_or_none() is not None
