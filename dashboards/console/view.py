"""A view of the queue: which alerts, as the address says it, so that it can be kept, sent and gone back to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import Depends, Query

from gateway.ledger.alert_queue import NOBODY, Filter
from gateway.ledger.alerts import FINDINGS, SEVERITIES

STATES = ("open", "confirmed", "dismissed", "all")
MINE, NOBODYS = "mine", "nobody"


@dataclass(frozen=True)
class View:
    """Filters of the queue; an empty one leaves out nothing. `new` is `1` for what came since the last look.

    `who` is `mine`, `nobody` or an operator's name.
    """

    state: str = "open"
    severity: str = ""
    who: str = ""
    finding: str = ""
    new: str = ""
    q: str = ""

    @property
    def query(self) -> str:
        """What stands behind the question mark; nothing for the view that opens first."""
        return urlencode({name: value for name, value in asdict(self).items() if value != getattr(FIRST, name)})

    @property
    def address(self) -> str:
        """The queue in this view."""
        return f"/?{self.query}" if self.query else "/"

    @property
    def is_narrow(self) -> bool:
        """Does it leave out alerts of its state?"""
        return self != View(state=self.state)

    def but(self, **changes: str) -> View:
        """Return it with some filters changed."""
        return replace(self, **changes)

    def filter(self, operator: str, looked: datetime | None) -> Filter:
        """Return what the ledger is asked for, for an operator who last looked at a moment."""
        who = {MINE: operator, NOBODYS: NOBODY}.get(self.who, self.who)
        state = "" if self.state == "all" else self.state
        return Filter(state, self.severity, self.q, who, self.finding, looked if self.new else None)


FIRST = View()


def of_address(
    state: Annotated[str, Query(max_length=20)] = "open",
    severity: Annotated[str, Query(max_length=20)] = "",
    who: Annotated[str, Query(max_length=128)] = "",
    finding: Annotated[str, Query(max_length=20)] = "",
    new: Annotated[str, Query(max_length=20)] = "",
    q: Annotated[str, Query(max_length=200)] = "",
) -> View:
    """Return the view that a page's address names; what names none is left out."""
    return View(
        state if state in STATES else "open",
        severity if severity in SEVERITIES else "",
        who,
        finding if finding in FINDINGS else "",
        "1" if new else "",
        q,
    )


def of_text(text: str) -> View:
    """Return the view that a query names, as another page's address carries it."""
    known = asdict(FIRST)
    return of_address(**(known | {name: value[:128] for name, value in parse_qsl(text) if name in known}))


Chosen = Annotated[View, Depends(of_address)]
