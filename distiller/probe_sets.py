"""Divides rows into what probes learn from and what they are measured on, by groups of near duplicates.

A group (a conversation, texts that say nearly the same, and what hangs together by them) is held out whole, or learnt
from: neither probe ever sees a row that is near one that it is measured on, whoever asked it. General prompts are those
of other accounts than ordinary training rows are of, where there are enough, so that no side is measured at home.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from distiller.collected import Collected
from distiller.near_duplicates import groups

LEAST_ROWS = 500  # that a probe learns from
LEAST_SEEDS = 3
LEAST_HELD_OUT, MOST_HELD_OUT = 50, 80  # rows of each kind
_LARGEST_SHARE = 10  # a held-out group is at most a tenth of what is wanted, or one text would be all of it


@dataclass(frozen=True)
class ProbeSets:
    """Places in `rows`: what is held out of the suspect's domain and of general prompts, and what may be learnt from.

    `groups` names each row's group. `apart`: the general prompts are of accounts that nothing ordinary is learnt from.
    """

    rows: tuple[Collected, ...]
    groups: tuple[int, ...]
    domain: tuple[int, ...]
    general: tuple[int, ...]
    suspect: tuple[int, ...]
    ordinary: tuple[int, ...]
    apart: bool

    def drawn(self, seed: int, size: int) -> tuple[list[int], list[int]]:
        """Draw as many of the suspect's rows as of ordinary ones, these evenly over their accounts."""
        draw = random.Random(seed)
        return draw.sample(self.suspect, size), _in_turn(self.rows, self.ordinary, size, draw)


def divide(suspect: Sequence[Collected], ordinary: Sequence[Collected], size: int) -> ProbeSets:
    """Divide both sides' rows for probes of `size` rows; where one side has too few, its part is smaller than that.

    No more is held out than can be spared.
    """
    rows = (*suspect, *ordinary)
    texts, talks = [one.row.text for one in rows], [f"{one.row.account}/{one.row.conversation}" for one in rows]
    named = tuple(groups(texts, talks))
    suspects, others = range(len(suspect)), range(len(suspect), len(rows))
    domain = _held_out(rows, named, suspects, frozenset(), len(suspect) - size)
    taken = frozenset(named[place] for place in domain)
    apart = _accounts_apart([rows[place] for place in others])
    candidates = [place for place in others if rows[place].row.account in apart]
    spare = len(ordinary) - size
    general = _held_out(rows, named, candidates, taken, spare)
    left = _left(rows, named, others, taken | {named[place] for place in general}, apart)
    if len(general) < LEAST_HELD_OUT or len(left) < size:
        apart = frozenset()
        general = _held_out(rows, named, others, taken, spare)
        left = _left(rows, named, others, taken | {named[place] for place in general}, apart)
    held = taken | {named[place] for place in general}
    learnt = _left(rows, named, suspects, held, frozenset())
    return ProbeSets(rows, named, tuple(domain), tuple(general), tuple(learnt), tuple(left), bool(apart))


def _held_out(
    rows: Sequence[Collected], named: Sequence[int], places: Iterable[int], without: Set[int], spare: int
) -> list[int]:
    """Take whole groups, drawn by the hash of their first row's id, until enough rows are together."""
    members: dict[int, list[int]] = defaultdict(list)
    for place in places:
        if named[place] not in without:
            members[named[place]].append(place)
    taken: list[int] = []
    for group in sorted(members, key=lambda group: _hash(rows[members[group][0]].row.id)):
        largest = min(MOST_HELD_OUT // _LARGEST_SHARE, min(MOST_HELD_OUT, spare) - len(taken))
        if len(members[group]) <= largest:
            taken += members[group]
    return sorted(taken)


def _left(
    rows: Sequence[Collected], named: Sequence[int], places: Iterable[int], held: Set[int], apart: Set[str]
) -> list[int]:
    return [place for place in places if named[place] not in held and rows[place].row.account not in apart]


def _accounts_apart(ordinary: Sequence[Collected]) -> frozenset[str]:
    """Every third account by the hash of its name."""
    names = sorted({one.row.account for one in ordinary}, key=_hash)
    return frozenset(names[::3]) if len(names) > 1 else frozenset()


def _in_turn(rows: Sequence[Collected], places: Sequence[int], size: int, draw: random.Random) -> list[int]:
    """Draw places so that each account has one in turn, as long as it has any."""
    by_account: dict[str, list[int]] = defaultdict(list)
    for place in draw.sample(places, len(places)):
        by_account[rows[place].row.account].append(place)
    turns = [(turn, place) for own in by_account.values() for turn, place in enumerate(own)]
    draw.shuffle(turns)
    return [place for _, place in sorted(turns, key=lambda one: one[0])[:size]]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "replace")).digest()
