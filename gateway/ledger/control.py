"""The control plane as the request path sees it: all tables it needs, read in one transaction into memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from gateway.ledger import accounts, drains, enforcement, keys, limits, registry
from gateway.ledger.database import Database


@dataclass(frozen=True)
class ControlState:
    """One consistent view: `keys` by keyed hash without the revoked, `enforcement` by account, the served `students`,
    the `drained` backends' URLs.

    `limits` are by subject and name; the requests per minute that a key was made with are among them.
    `loaded_at` is `time.monotonic()` at the moment of reading; keys and enforcement may end later than that, so their
    `expires` and `until` are compared again at each request.
    """

    revision: int
    loaded_at: float
    keys: dict[bytes, keys.Key]
    accounts: dict[str, accounts.Account]
    enforcement: dict[str, enforcement.Enforcement]
    students: tuple[registry.Student, ...]
    limits: limits.Limits = field(default_factory=dict)
    drained: frozenset[str] = frozenset()


def load(database: Database) -> ControlState:
    """Read the control state; raises SQLAlchemy's errors when the database can't be read."""
    loaded_at = time.monotonic()
    revision = database.revision()  # Read first: a write in between is then seen as a newer revision and read again.
    with database.read() as connection:
        live = [key for key in keys.every(connection) if key.revoked is None]
        return ControlState(
            revision,
            loaded_at,
            {key.hash: key for key in live},
            {account.name: account for account in accounts.every(connection)},
            enforcement.in_force(connection),
            tuple(registry.in_state(connection, *registry.SERVED)),
            limits.in_force(connection, live),
            frozenset(drain.url for drain in drains.every(connection)),
        )
