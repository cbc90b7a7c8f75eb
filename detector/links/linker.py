"""Follows the profiles of all accounts as the lake is read, and finds the linked sets among them when asked."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from detector.columns import Columns
from detector.links import profile
from detector.links.profile import LINK, Places, Registered
from detector.links.sets import find
from detector.sets import LinkedSet
from detector.sketch import States
from gateway.ledger import accounts
from gateway.ledger.database import Database

Register = Callable[[], Mapping[str, Registered]]


def registered(database: Database) -> dict[str, Registered]:
    """Return what the control plane's register says of every account."""
    with database.read() as connection:
        rows = accounts.every(connection)
    return {row.name: Registered(row.created, row.payment, row.signup_network) for row in rows}


def _nobody() -> Mapping[str, Registered]:
    return {}


class AccountLinks:
    """Links accounts (`detector.sets.Linker`). `register` returns what the register says of accounts, by name."""

    def __init__(self, register: Register = _nobody) -> None:
        self._register = register
        self._places: dict[str, int] = {}
        self._links = profile.empty(0)

    def see(self, rows: Columns, places: Places) -> None:
        """Take requests in event time; `places` are those of their accounts."""
        if not len(rows):
            return
        self._grow(int(places.max()) + 1)
        for account, place in zip(*np.unique(rows.account, return_index=True), strict=True):
            self._places[rows.names[account]] = int(places[place])
        profile.update(self._links, rows, places)

    def sets(self, states: States, day: int) -> Sequence[LinkedSet]:
        """Return the linked sets there are now, largest first, no account in two."""
        self._grow(len(states))
        profile.register(self._links, self._places, self._register())
        return find(states, self._links[: len(states)])

    def keep(self, places: Places) -> None:
        """Forget all accounts but these; the first of them has place 0 from now on, and so on."""
        self._grow(int(places.max(initial=-1)) + 1)
        moved = {int(old): new for new, old in enumerate(places)}
        self._places = {name: moved[place] for name, place in self._places.items() if place in moved}
        self._links = self._links[places].copy()

    def to_bytes(self) -> bytes:
        """Return what is known as bytes: numbers and JSON, no pickle."""
        file = io.BytesIO()
        names = np.frombuffer(json.dumps(self._places).encode(), np.uint8)
        np.savez(file, names=names, links=np.frombuffer(self._links.tobytes(), np.uint8))
        return file.getvalue()

    def restore(self, raw: bytes) -> None:
        """Take up what `to_bytes` returned; raises `ValueError` where it is of another form."""
        with np.load(io.BytesIO(raw), allow_pickle=False) as found:
            self._places = json.loads(found["names"].tobytes())
            self._links = np.frombuffer(found["links"].tobytes(), LINK).copy()

    def _grow(self, size: int) -> None:
        have = len(self._links)
        if size > have:
            more = profile.empty(max(size, 2 * have, 16) - have)
            self._links = np.concatenate([self._links, more])
