"""Linked accounts as one: who acts together, by which channels, and how likely it is that they harvest.

What links accounts is somebody else's: a `Linker` sees every request as it is read and names the sets when it is asked.
A set counts from then on; its members' score is the greater of their own and the set's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from detector.columns import Columns
from detector.sketch import States

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Edge:
    """Two accounts, by their places, the channels that link them, and the log odds that they are of one campaign."""

    first: int
    second: int
    channels: tuple[str, ...]
    log_odds: float


@dataclass(frozen=True)
class LinkedSet:
    """Accounts that act together, by their places.

    `excess`: the log odds that they harvest as one, less those from which a set gives cause for an alert. `edges` are
    those that the set rests on, strongest first; each has two independent channels or more.
    """

    members: Places
    excess: float
    edges: tuple[Edge, ...] = ()


WORDS = {
    "template": "how requests are sent",
    "content": "what is asked",
    "time": "when",
    "company": "who pays and from where",
    "pivot": "a move to another model on one day",
}


def reason(linked: LinkedSet) -> dict[str, Any]:
    """Return what is to be said of a set, as an alert's reasons are."""
    counts = Counter(channel for edge in linked.edges for channel in edge.channels)
    shared = ", ".join(WORDS[channel] for channel, _ in counts.most_common())
    others = len(linked.members) - 1
    text = f"Acts as one with {others} other account{'s' if others != 1 else ''}: alike in {shared}."
    return {"feature": "linked_accounts", "value": others, "own_baseline": None, "peer_median": None, "text": text}


class Linker(Protocol):
    """Finds accounts that act together."""

    def see(self, rows: Columns, places: Places) -> None:
        """Take requests in event time; `places` are those of their accounts."""
        ...

    def sets(self, states: States, day: int) -> Sequence[LinkedSet]:
        """Return the sets there are at a moment of a day (since the epoch), no account in two."""
        ...

    def keep(self, places: Places) -> None:
        """Forget all accounts but these; the first of them has place 0 from now on, and so on."""
        ...

    def to_bytes(self) -> bytes:
        """Return what it knows as bytes."""
        ...

    def restore(self, raw: bytes) -> None:
        """Take up what `to_bytes` returned."""
        ...


class NoLinks:
    """Links nobody."""

    def see(self, rows: Columns, places: Places) -> None:
        """Take requests."""

    def sets(self, states: States, day: int) -> Sequence[LinkedSet]:
        """Return no sets."""
        return []

    def keep(self, places: Places) -> None:
        """Forget accounts."""

    def to_bytes(self) -> bytes:
        """Return nothing."""
        return b""

    def restore(self, raw: bytes) -> None:
        """Take up nothing."""
