"""A linked set's score is its members', its alert is one, and names only those whose set gives cause for it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from detector import columns
from detector.alerting import Alerting
from detector.columns import Columns
from detector.sets import Edge, LinkedSet, NoLinks, Places
from detector.sketch import States
from detector.watch import Watch
from gateway.ledger import accounts, alerts
from gateway.ledger.database import Database
from gateway.ledger.declared_uses import DeclaredUse
from gateway.ledger.identifiers import now
from tests.control_plane import fresh
from tests.detector import histories

NAMES = tuple(f"member-{number}" for number in range(4))


class Fixed(NoLinks):
    """Links the first four accounts, with an excess that is given."""

    def __init__(self, excess: float) -> None:
        self.excess = excess

    def sets(self, states: States, day: int) -> Sequence[LinkedSet]:
        """Return the set."""
        members: Places = np.arange(min(4, len(states)))
        return [LinkedSet(members, self.excess, (Edge(0, 1, ("content", "time"), 4.0),))]


@pytest.fixture
def database(control_url: str) -> Iterator[Database]:
    """Return a control plane that knows the members."""
    opened = fresh(control_url)
    with opened.write() as connection:
        for name in NAMES:
            accounts.create(connection, accounts.new(name), "test")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def rows() -> Columns:
    """Return four accounts with twelve ordinary requests each, too few to be scored alone."""
    rng = random.Random(2)
    return columns.read(
        histories.to_table(
            [row for name in NAMES for row in histories.ordinary_use(rng, name, histories.history(rng, 4, 3))]
        )
    )


def watched(rows: Columns, excess: float, **more: object) -> Watch:
    """Follow the rows to the end."""
    watch = Watch(linker=Fixed(excess), **more)  # type: ignore[arg-type]
    watch.advance(rows)
    watch.finish()
    return watch


def test_members_that_are_too_young_to_be_scored_alone_are_flagged_with_their_set(rows: Columns) -> None:
    """Accounts below thirty requests are scored as a set, and no longer abstained on."""
    watch = watched(rows, 2.0)
    assert sorted(watch.suspects()) == list(NAMES)
    assessment = watch.assess(NAMES[0])
    assert assessment.severity != "none"
    assert not assessment.abstained
    assert assessment.set_id is not None
    assert assessment.reasons[0]["feature"] == "linked_accounts"


def test_a_set_below_the_bound_flags_nobody_but_keeps_its_id(rows: Columns) -> None:
    """A company is linked and left alone."""
    watch = watched(rows, -2.0)
    assert watch.suspects() == []
    assert watch.assess(NAMES[0]).set_id is not None
    assert watch.acting_with(NAMES[0]) is None


def test_a_set_has_one_alert_that_names_members_and_channels(rows: Columns, database: Database) -> None:
    """Four suspects of one set are one case for whoever decides."""
    watch = watched(rows, 2.0)
    (raised,) = Alerting(database).publish(watch, NAMES)
    assert sorted([raised.account, *raised.evidence["members"]]) == list(NAMES)
    first = watch.book.names[:2]
    assert raised.evidence["links"][0] == {"accounts": first, "channels": ["content", "time"], "log_odds": 4.0}
    assert Alerting(database).publish(watch, NAMES) == []
    silent = raised.evidence["members"]
    for name in silent:
        assert Alerting(database).publish(watch, [name]) == [], "the one who has the alert was silent"
    with database.read() as connection:
        assert len(alerts.every(connection)) == 1


def test_a_declared_use_that_is_kept_to_lowers_what_its_set_says(rows: Columns) -> None:
    """The member whose use was granted is not flagged with the others."""
    use = DeclaredUse("use-1", NAMES[0], "synthetic data", None, None, now())
    watch = watched(rows, 1.0, uses={NAMES[0]: [use]})
    assert sorted(watch.suspects()) == list(NAMES[1:])


def test_a_set_that_was_dismissed_is_not_raised_in_another_name(rows: Columns, database: Database) -> None:
    """A member that has drawn more since, but not the set's head, opens no second case."""
    watch = watched(rows, 2.0)
    (raised,) = Alerting(database).publish(watch, NAMES)
    with database.write() as connection:
        alerts.decide(connection, raised.id, "dismiss", "mara", "one company")
    other = next(name for name in NAMES if name != raised.account)
    watch.book.verdicts["leaked"][watch.book.place(other)] *= 1.2
    assert Alerting(database).publish(watch, NAMES) == []


def test_a_set_that_gives_less_cause_says_so_and_who_left_it_is_alone_again(rows: Columns) -> None:
    """Members' scores come down with their set's, also of those too young to be looked at alone."""
    watch = watched(rows, 2.0)
    assert watch.assess(NAMES[0]).score > watch.model.alert
    watch.linker = Fixed(-5.0)
    watch.link()
    verdict = watch.book.verdicts[watch.book.place(NAMES[0])]
    assert verdict["score"] == max(verdict["own"], verdict["set_score"]) < watch.model.alert
    watch.linker = NoLinks()
    watch.link()
    verdict = watch.book.verdicts[watch.book.place(NAMES[0])]
    assert (verdict["score"], verdict["set"]) == (verdict["own"], 0)


def test_who_is_forgotten_leaves_no_set_half_known(rows: Columns, database: Database) -> None:
    """Places are others' then: until accounts are linked anew nobody is a member of anything."""
    watch = watched(rows, 2.0)
    watch.forget([NAMES[1]])
    assert not watch.book.verdicts["set"].any()
    watch.link()
    (raised,) = Alerting(database).publish(watch, [name for name in NAMES if name != NAMES[1]])
    assert NAMES[1] not in (raised.account, *raised.evidence["members"])
