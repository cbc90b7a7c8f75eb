"""What probes learn from is never near what they are measured on, and both sides learn from as many rows."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from distiller.collected import Collected, evenly
from distiller.near_duplicates import near_any
from distiller.probe_sets import LEAST_HELD_OUT, MOST_HELD_OUT, ProbeSets, divide
from distiller.rows import Row
from tests.distiller.test_near_duplicates import texts


def row(number: int, account: str, text: str, conversation: str | None = None) -> Collected:
    body = {"messages": [{"role": "user", "content": text}]}
    time = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=number)
    name = f"{account}-{number}"
    return Collected(Row(name, time, account, conversation or name, body, "x"), True)


def rows(accounts: int, count: int, seed: int) -> list[Collected]:
    """Rows of so many accounts; a third of the texts are nearly earlier ones, of whatever account."""
    return [row(number, f"a{seed}-{number % accounts}", text) for number, text in enumerate(texts(count, seed))]


def held(sets: ProbeSets) -> list[str]:
    return [sets.rows[place].row.text for place in (*sets.domain, *sets.general)]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_learnt_is_near_what_is_held_out(seed: int) -> None:
    """Whoever asked it: a suspect's row that is near an ordinary held-out one is learnt by nobody, nor the reverse."""
    suspect, ordinary = rows(1, 200, seed), rows(6, 200, seed + 10)
    shared = [row(900 + number, "echo", one.row.text + " again") for number, one in enumerate(suspect[::4])]
    sets = divide(suspect, [*ordinary, *shared], 60)
    learnt = [sets.rows[place].row.text for place in (*sets.suspect, *sets.ordinary)]
    assert LEAST_HELD_OUT <= len(sets.domain) <= MOST_HELD_OUT
    assert not any(near_any(learnt, held(sets)))
    for drawn in (sets.drawn(1, 60), sets.drawn(2, 60)):
        assert set(drawn[0]) <= set(sets.suspect)
        assert set(drawn[1]) <= set(sets.ordinary)
        assert [len(set(side)) for side in drawn] == [60, 60]
    assert sets.drawn(1, 60) == sets.drawn(1, 60) != sets.drawn(2, 60)


def test_a_conversation_is_held_out_whole() -> None:
    """Its turns quote one another."""
    suspect = [row(number, "one", text, f"talk-{number // 3}") for number, text in enumerate(texts(240, 5))]
    sets = divide(suspect, rows(6, 200, 6), 60)
    talks = [{sets.rows[place].row.conversation for place in places} for places in (sets.domain, sets.suspect)]
    assert not talks[0] & talks[1]


def test_one_text_is_never_all_that_is_held_out() -> None:
    """A template that most rows repeat is learnt from; what is held out are many different prompts."""
    copies = [
        row(1000 + number, "one", "please sort this ticket into one of the four usual boxes") for number in range(300)
    ]
    sets = divide([*rows(1, 150, 1), *copies], rows(6, 200, 2), 60)
    assert len({sets.groups[place] for place in sets.domain}) >= 10
    assert not any("four usual boxes" in sets.rows[place].row.text for place in sets.domain)


def test_general_prompts_are_of_accounts_that_nobody_learnt_from() -> None:
    """Where others have rows enough; with one other account they are its own, and that is said."""
    many, one = divide(rows(1, 200, 1), rows(6, 300, 2), 100), divide(rows(1, 200, 1), rows(1, 300, 2), 100)
    measured, learnt = ({many.rows[place].row.account for place in places} for places in (many.general, many.ordinary))
    assert many.apart
    assert not measured & learnt
    assert not one.apart
    assert len(one.general) >= LEAST_HELD_OUT


def test_ordinary_rows_are_drawn_evenly_over_accounts() -> None:
    """A loud account is no more of ordinary traffic than a quiet one that has enough."""
    loud = [row(number, "loud", text) for number, text in enumerate(texts(300, 3))]
    sets = divide(rows(1, 200, 1), [*loud, *rows(4, 160, 4)], 60)
    _, drawn = sets.drawn(1, 60)
    accounts = [sets.rows[place].row.account for place in drawn]
    assert max(map(accounts.count, set(accounts))) - min(map(accounts.count, set(accounts))) <= 1


def test_no_more_is_held_out_than_can_be_spared() -> None:
    """550 rows are enough for a probe of 500 and 50 held out, where all of them differ."""
    suspect = [row(number, "one", f"{' '.join(f'w{number}x{word}' for word in range(9))}") for number in range(550)]
    sets = divide(suspect, rows(6, 900, 2), 500)
    assert (len(sets.domain), len(sets.suspect)) == (50, 500)


def test_as_many_of_each_as_make_enough() -> None:
    """The smallest number of each that is enough together; all of them where there are too few."""
    assert evenly({"a": 100, "b": 10, "c": 3}, 33) == 20
    assert evenly({"a": 5, "b": 5}, 100) == 5
    assert evenly({}, 10) == 1
    draw = random.Random(1)
    for _ in range(20):
        counts, most = {str(name): draw.randint(1, 90) for name in range(9)}, draw.randint(5, 100)
        each = evenly(counts, most)
        if sum(counts.values()) >= most:
            assert sum(min(count, each) for count in counts.values()) >= most
            assert each == 1 or sum(min(count, each - 1) for count in counts.values()) < most
