"""The queue's order, filters and pages, on SQLite and on PostgreSQL; and decisions about many alerts."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from gateway.ledger import (
    accounts,
    alert_events,
    alert_queue,
    alerts,
    audit,
    bulk,
    canaries,
    enforcement,
    looks,
    saved_views,
)
from gateway.ledger.alert_queue import NOBODY, Filter, Place
from gateway.ledger.alerts import Severity
from gateway.ledger.database import Database
from gateway.ledger.errors import Forbidden, InvalidValue, NotFound
from gateway.ledger.identifiers import now
from tests.control_plane import impose

OPEN = Filter("open")
RATES = json.dumps({"calm": 10, "busy": 1000, "held": 9000, "nobody": 5})
SUSPECTS: tuple[tuple[str, Severity, float], ...] = (
    ("low", "low", 0.5),
    ("calm", "medium", 0.9),
    ("old-high", "high", 0.9),
    ("high", "high", 0.9),
    ("busy", "low", 0.4),
    ("held", "high", 0.9),
)


@pytest.fixture
def ids(database: Database) -> dict[str, str]:
    """Raise an alert about each suspect, a minute after the other, and suspend one of them."""
    found = {}
    with database.write() as connection:
        for place, (name, severity, score) in enumerate(SUSPECTS):
            accounts.create(connection, accounts.new(name), "tester")
            reasons = [{"feature": "unseen_share", "text": f"Größe {name}: 50 % of its_questions"}]
            alert = alerts.raise_or_update(connection, name, severity, score, reasons, {})[0]
            opened = now() - timedelta(minutes=len(SUSPECTS) - place)
            connection.execute(sa.update(alerts.table).where(alerts.table.c.id == alert.id).values(opened=opened))
            found[name] = alert.id
        impose(connection, "held", "suspend", "ann", "clear")
    return found


def _names(database: Database, chosen: Filter, after: str = "", limit: int = 50) -> list[str]:
    with database.read() as connection:
        return [alert.account for alert in alert_queue.page(connection, chosen, RATES, after, limit).alerts]


def test_what_leaks_most_and_most_certainly_is_first(database: Database, ids: dict[str, str]) -> None:
    """Then the severity, then the newest; who is suspended leaks nothing, and who has no alert is in no sum."""
    assert _names(database, OPEN) == ["busy", "calm", "held", "high", "old-high", "low"]
    with database.read() as connection:
        assert alert_queue.leaking(connection, RATES) == 1010


def test_pages_follow_each_other_without_a_gap(database: Database, ids: dict[str, str]) -> None:
    """Also when the last alert of a page was decided meanwhile, and past the last one there is nothing."""
    whole = _names(database, OPEN)
    assert _names(database, OPEN, ids["calm"], 2) == whole[2:4]
    with database.write() as connection:
        alerts.decide(connection, ids["calm"], "dismiss", "ann", "fine")
    assert _names(database, OPEN, ids["calm"], 2) == whole[2:4]
    assert _names(database, OPEN, ids[whole[-1]]) == []
    with database.read() as connection:
        assert alert_queue.page(connection, OPEN, RATES, limit=5).more is False
        assert alert_queue.page(connection, OPEN, RATES, limit=4).more is True


def test_an_alert_knows_its_place_and_the_next(database: Database, ids: dict[str, str]) -> None:
    """After the last comes the first; an alert outside of the view has no place, and a next one all the same."""
    whole = _names(database, OPEN)
    with database.read() as connection:
        places = [alert_queue.place(connection, OPEN, RATES, ids[name]) for name in whole]
        assert [(place.number, place.total) for place in places] == [(number, 6) for number in range(1, 7)]
        assert [place.following for place in places] == [ids[name] for name in (*whole[1:], whole[0])]
        high = Filter("open", severity="high")
        assert alert_queue.place(connection, high, RATES, ids["low"]) == Place(None, ids["held"], 3)
        assert alert_queue.place(connection, high, RATES, "gone") == Place(None, ids["held"], 3)
        assert alert_queue.place(connection, Filter("confirmed"), RATES, ids["low"]) == Place(None, None, 0)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (Filter("open", severity="high"), {"held", "high", "old-high"}),
        (Filter("open", text="GRÖSSE"), set()),
        (Filter("open", text="Größe HIGH"), {"high"}),
        (Filter("open", text="50 %"), {name for name, *_ in SUSPECTS}),
        (Filter("open", text="its_questions"), {name for name, *_ in SUSPECTS}),
        (Filter("open", text="itsXquestions"), set()),
        (Filter("open", text="unseen_share"), {name for name, *_ in SUSPECTS}),
        (Filter("open", text='"text"'), set()),
        (Filter("open", text="-hig"), {"old-high"}),
        (Filter("open", assignee="ann"), {"busy"}),
        (Filter("open", assignee=NOBODY, severity="low"), {"low"}),
        (Filter("confirmed"), set()),
        (Filter("dismissed"), set()),
        (Filter(), {name for name, *_ in SUSPECTS}),
    ],
)
def test_filters_choose(database: Database, ids: dict[str, str], chosen: Filter, expected: set[str]) -> None:
    """State, severity, who has it, and words of the account or the reasons, taken as they are, not as patterns."""
    with database.write() as connection:
        alerts.assign(connection, ids["busy"], "ann", "ann")
        found = {alert.account for alert in alert_queue.page(connection, chosen, RATES).alerts}
        assert found == expected
        assert alert_queue.count(connection, chosen) == len(expected)
        assert set(alert_queue.ids(connection, chosen, 50)) == {ids[name] for name in expected}


def test_what_came_since_a_moment_is_told(database: Database, ids: dict[str, str]) -> None:
    """New is what was opened after the operator's last look; before the first look there is none."""
    with database.write() as connection:
        assert looks.last(connection, "ann") is None
        looks.note(connection, "ann")
        looks.note(connection, "ann")
        looked = looks.last(connection, "ann")
        assert looked is not None
        assert alert_queue.count(connection, Filter("open", since=looked)) == 0
        assert alert_queue.count(connection, Filter("open", since=looked - timedelta(minutes=2, seconds=30))) == 2


def test_an_alert_is_given_to_somebody(database: Database, ids: dict[str, str]) -> None:
    """It is audited, once; a decided one is given to nobody; a finding that is none is refused."""
    with database.write() as connection:
        alerts.assign(connection, ids["low"], "ann", "bob")
        alerts.assign(connection, ids["low"], "ann", "bob")
        rows = [row for row in audit.recent(connection, subject="low") if row.action == "alert.assign"]
        said = [(row.actor, row.before, row.after) for row in rows]
        assert said == [("bob", {"assignee": None}, {"assignee": "ann"})]
        with pytest.raises(InvalidValue, match="choose harvesting"):
            alerts.decide(connection, ids["low"], "dismiss", "ann", "x", finding="aliens")  # type: ignore[arg-type]
        decided = alerts.decide(connection, ids["low"], "dismiss", "ann", "x", finding="test_traffic")
        assert (decided.finding, decided.assignee) == ("test_traffic", "ann")
        with pytest.raises(Forbidden, match="decided already"):
            alerts.assign(connection, ids["low"], None, "ann")


def test_events_tell_what_happened_in_order(database: Database, ids: dict[str, str]) -> None:
    """Opened, raised when the severity rises, decided; old ones go, and the newest number stays."""
    with database.write() as connection:
        before = alert_events.newest(connection)
        for severity in ("low", "high", "medium"):
            alerts.raise_or_update(connection, "low", severity, 0.9, [], {})
        alerts.decide(connection, ids["low"], "dismiss", "ann", "x")
        found = alert_events.after(connection, before, 10)
        assert [(event.kind, event.severity) for event in found] == [("raised", "high"), ("decided", "high")]
        old = now() - timedelta(days=31)
        connection.execute(sa.update(alert_events.table).values(time=old))
        alert_events.forget_old(connection)
        assert [event.number for event in alert_events.after(connection, 0, 100)] == [found[-1].number]


def test_many_are_decided_as_one_and_taken_back_as_one(database: Database, ids: dict[str, str]) -> None:
    """One id, a row of the audit log for each and one for all; what was undone alone before is left out."""
    with database.write() as connection:
        chosen = [ids[name] for name in ("low", "calm", "high")]
        batch = bulk.decide(connection, chosen, "strip", "ann", "same template", "reseller")
        assert {alert.account for alert in bulk.of(connection, batch)} == {"low", "calm", "high"}
        assert {"low", "calm", "high"} <= set(enforcement.in_force(connection))
        row = audit.recent(connection, limit=1, subject=batch)[0]
        assert (row.action, row.after, row.reason) == ("bulk.strip", {"alerts": 3}, "same template")
        alerts.take_back(connection, ids["low"], "ann", "not this one")
        assert len(bulk.undo(connection, batch, "bob", "the wrong view")) == 2
        assert set(enforcement.in_force(connection)) == {"held"}
        assert alert_queue.count(connection, OPEN) == 6
        with pytest.raises(NotFound, match="nothing to take back"):
            bulk.undo(connection, batch, "bob", "again")


def test_what_refuses_is_never_decided_in_bulk(database: Database, ids: dict[str, str]) -> None:
    """Nor too many at once, nor without a finding; and where one can't be decided, none is."""
    some = [ids["low"], ids["calm"]]
    for step in bulk.ONE_BY_ONE:
        with database.write() as connection, pytest.raises(Forbidden, match="alert by alert"):
            bulk.decide(connection, some, step, "ann", "x", "harvesting")
    with database.write() as connection, pytest.raises(InvalidValue, match="narrow it down"):
        bulk.decide(connection, some * bulk.MOST, "dismiss", "ann", "x", "other")
    with database.write() as connection:
        alerts.decide(connection, ids["high"], "dismiss", "ann", "x")
    with pytest.raises(Forbidden, match="decided already"), database.write() as connection:
        bulk.decide(connection, [*some, ids["high"]], "dismiss", "ann", "x", "other")
    with database.read() as connection:
        assert alerts.counts(connection) == {"open": 5, "confirmed": 0, "dismissed": 1}


def test_who_is_stopped_moves_nobody_past_the_others(database: Database, ids: dict[str, str]) -> None:
    """After an alert that was just decided comes what came after it, though nothing leaks there any more."""
    with database.write() as connection:
        alerts.decide(connection, ids["busy"], "suspend", "ann", "clear")
    assert _names(database, OPEN, ids["busy"], 2) == ["calm", "held"]
    with database.read() as connection:
        assert alert_queue.place(connection, OPEN, RATES, ids["busy"]) == Place(None, ids["calm"], 5)


def test_a_canarys_alert_is_nobodys_work(database: Database, ids: dict[str, str]) -> None:
    """It is in no view, number, sum or message, decided or open; what else its account does is somebody's, and is."""
    rates = json.dumps({"canary-1": 7})
    with database.write() as connection:
        canaries.ensure(connection, "canary-1", "tester")
        told = alert_events.newest(connection)
        canary = alerts.raise_or_update(connection, "canary-1", "high", 0.9, [], {"canary": True})[0]
    with database.read() as connection:
        assert alerts.counts(connection)["open"] == alerts.count_open(connection) == 6
        assert alert_queue.leaking(connection, rates) == 0
        assert canary.id not in alert_queue.ids(connection, Filter(), 50)
    with database.write() as connection:
        alerts.decide(connection, canary.id, "dismiss", "detector", "found")
        assert alert_events.newest(connection) == told
        other = alerts.raise_or_update(connection, "canary-1", "high", 0.9, [], {"members": ["true"]})[0]
    with database.read() as connection:
        assert alerts.counts(connection) == {"open": 7, "confirmed": 0, "dismissed": 0}
        assert alerts.last_decided(connection) is None
        assert alerts.opened_since(connection, canary.opened, "high", 50) == [other]
        assert alert_queue.leaking(connection, rates) == 7
        assert alert_queue.place(connection, Filter(), rates, other.id).number == 1
        assert alert_queue.page(connection, Filter(), rates).total == 7


def test_views_are_each_operators_own(database: Database) -> None:
    """Saved under a name, in the place of one of the same name, and at most twenty."""
    with database.write(announce=False) as connection:
        saved_views.save(connection, "ann", " mine ", "who=mine")
        saved_views.save(connection, "ann", "mine", "who=mine&severity=high")
        saved_views.save(connection, "bob", "mine", "")
        assert [view.query for view in saved_views.of_operator(connection, "ann")] == ["who=mine&severity=high"]
        with pytest.raises(InvalidValue, match="1 to 40"):
            saved_views.save(connection, "ann", "  ", "")
        for number in range(19):
            saved_views.save(connection, "ann", f"view {number}", "")
        with pytest.raises(InvalidValue, match="remove one first"):
            saved_views.save(connection, "ann", "one more", "")
        saved_views.remove(connection, "ann", "mine")
        assert len(saved_views.of_operator(connection, "ann")) == 19


def test_what_no_worker_keeps_is_not_announced(database: Database) -> None:
    """A saved view makes no worker read its tables anew."""
    before = database.revision()
    with database.write(announce=False) as connection:
        looks.note(connection, "ann")
    assert database.revision() == before
    with database.write() as connection:
        looks.note(connection, "ann")
    assert database.revision() == before + 1
