"""The queue's views, what is new in it, who has what, and decisions about a whole view."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.ledger import alerts, audit, enforcement, looks
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from tests.dashboards.conftest import Person


def test_a_view_is_saved_found_again_and_removed(mara: Person, joel: Person) -> None:
    """It stands above the queue of who saved it, and nobody else's; markup in its name stays text."""
    mara.send("/views", name="<b>hot</b>", query="severity=high&who=nobody")
    page = mara.get("/")
    assert 'href="/?severity=high&amp;who=nobody">&lt;b&gt;hot&lt;/b&gt;</a>' in page
    assert "hot&lt;" not in joel.get("/")
    assert "Remove the view" in mara.get("/?severity=high&who=nobody")
    assert "hot&lt;" not in mara.send("/views/remove", name="<b>hot</b>").text
    refused = mara.send("/views", name=" ", query="severity=high")
    assert (refused.status_code, "needs a name" in refused.text) == (422, True)


def test_an_address_that_makes_no_sense_is_the_nearest_view(mara: Person) -> None:
    """States, severities and findings that there are not leave nothing out, and lead nowhere else."""
    page = mara.get("/?state=odd&severity=huge&finding=aliens&new=yes&q=")
    assert "tallow-research" in page
    assert mara.client.get("/", params={"q": "x" * 300}).status_code == 422
    target = mara.send("/looked", query="//evil.example/?state=all&severity=high").url
    assert str(target).startswith("http://127.0.0.1:8081/?")


def test_what_is_new_since_the_last_look_is_told(mara: Person, database: Database, open_alerts: dict[str, str]) -> None:
    """Nothing is new before the first look; afterwards what was opened later is, by a mark, a count and a view."""
    assert "new since" not in mara.get("/")
    assert "nothing new since you looked" in mara.send("/looked").text
    with database.write() as connection:
        later = alerts.table.c.id == open_alerts["kitesurf-labs"]
        looked = looks.last(connection, "mara")
        assert looked is not None
        connection.execute(sa.update(alerts.table).where(later).values(opened=looked + timedelta(milliseconds=1)))
    page = mara.get("/")
    assert "1 new since you looked" in page
    assert page.count('<span class="tag">new</span>') == 1
    only = mara.get("/?new=1")
    assert "kitesurf-labs" in only
    assert "tallow-research" not in only


def test_an_alert_is_taken_and_put_back(mara: Person, joel: Person, open_alerts: dict[str, str]) -> None:
    """From the queue or its page; the views of who has what follow, and a stranger's name is refused."""
    alert_id = open_alerts["tallow-research"]
    back = mara.send(f"/alerts/{alert_id}/assign", to="mara", back="queue", **{"from": "severity=high"})
    assert str(back.url).endswith(f"/?severity=high#row-{alert_id}")
    assert "tallow-research" in mara.get("/?who=mine")
    assert "tallow-research" not in mara.get("/?who=nobody")
    assert "tallow-research" in joel.get("/?who=mara")
    assert "It is with <b>mara</b>" in joel.get(f"/alerts/{alert_id}")
    assert "Nobody has it" in mara.send(f"/alerts/{alert_id}/assign", to="").text
    assert mara.send(f"/alerts/{alert_id}/assign", to="nobody-here").status_code == 404


def test_the_next_alert_is_the_next_of_the_view(mara: Person, open_alerts: dict[str, str]) -> None:
    """Who opened an alert from a view goes on within it, also after a decision, and back to it."""
    first, second = open_alerts["kitesurf-labs"], open_alerts["delphi-corpus"]
    page = mara.get(f"/alerts/{first}?from=severity%3Dmedium")
    assert "1 of 2" in page
    assert f'href="/alerts/{second}?from=severity%3Dmedium" data-key="n"' in page
    assert f'href="/?severity=medium#row-{first}" data-key="u"' in page
    form = {"decision": "watch", "note": "Seen before.", "from": "severity=medium"}
    decided = mara.send(f"/alerts/{first}/decide", **form)
    assert f"/alerts/{second}?from=severity%3Dmedium" in decided.text


def test_a_dismissal_says_what_it_was(mara: Person, database: Database, open_alerts: dict[str, str]) -> None:
    """Without a finding nothing is decided; a step without one is against harvesting; both are found again by it."""
    loom, tallow = open_alerts["loom-analytics"], open_alerts["tallow-research"]
    refused = mara.send(f"/alerts/{loom}/decide", decision="dismiss", note="A report.")
    assert (refused.status_code, "choose what it was" in refused.text) == (422, True)
    mara.send(f"/alerts/{loom}/decide", decision="dismiss", finding="declared_use", note="A report.")
    mara.send(f"/alerts/{tallow}/decide", decision="strip", note="Exam questions.")
    with database.read() as connection:
        found = [alerts.get(connection, one).finding for one in (loom, tallow)]
    assert found == ["declared_use", "harvesting"]
    page = mara.get("/?state=all&finding=declared_use")
    assert "loom-analytics" in page
    assert "a declared use" in page
    assert "tallow-research" not in page


def _bulk(mara: Person, query: str) -> dict[str, str]:
    page = mara.get(f"/bulk?{query}")
    chosen = re.search(r'name="chosen" value="([0-9a-f]{64})"', page)
    assert chosen is not None
    return {"query": query, "chosen": chosen.group(1)}


def test_a_view_is_decided_at_once_and_taken_back_at_once(
    mara: Person, joel: Person, database: Database, open_alerts: dict[str, str]
) -> None:
    """The page counts whom it is about; all of them are decided with one note, and one undo opens them all again."""
    page = mara.get("/bulk?severity=low")
    assert "2 open alerts" in page
    assert "loom-analytics" in page
    assert "tallow-research" not in page
    form = _bulk(mara, "severity=low") | {
        "decision": "dismiss",
        "finding": "test_traffic",
        "note": "Our own load test.",
    }
    done = mara.send("/bulk", **form)
    assert "2 alerts stand as it left them" in done.text
    with database.read() as connection:
        found = [alerts.get(connection, open_alerts[name]) for name in ("loom-analytics", "orchard-eval")]
    assert {(alert.state, alert.finding, alert.operator) for alert in found} == {("dismissed", "test_traffic", "mara")}
    path = done.url.path
    assert joel.send(f"{path}/undo", note="").status_code == 422
    assert "Taken back for 2 alerts" in joel.send(f"{path}/undo", note="It was no load test.").text
    assert "5 open" in mara.get("/")


def test_a_view_that_changed_meanwhile_is_looked_at_again(
    mara: Person, joel: Person, database: Database, open_alerts: dict[str, str]
) -> None:
    """Nobody decides about an alert that the page did not count."""
    form = _bulk(mara, "severity=low") | {"decision": "strip", "finding": "reseller", "note": "All the same."}
    joel.send(f"/alerts/{open_alerts['loom-analytics']}/decide", decision="watch", note="Mine.")
    refused = mara.send("/bulk", **form)
    assert (refused.status_code, "have changed since" in refused.text) == (422, True)
    assert "All the same." in refused.text
    with database.read() as connection:
        assert "orchard-eval" not in enforcement.in_force(connection)


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"decision": "suspend"}, 409, "alert by alert"),
        ({"decision": ""}, 422, "choose dismiss or a step"),
        ({"finding": ""}, 422, "choose a finding"),
        ({"decision": "cap", "tokens": "many"}, 422, "give a cap"),
        ({"days": "4000"}, 422, "choose an expiry"),
        ({"note": " "}, 422, "needs a note"),
    ],
)
def test_a_bulk_decision_that_lacks_something_says_what(
    mara: Person, changes: dict[str, str], status: int, words: str
) -> None:
    """And decides about none."""
    form: dict[str, Any] = _bulk(mara, "severity=low")
    refused = mara.send("/bulk", **form | {"decision": "dismiss", "finding": "other", "note": "Why.", **changes})
    assert (refused.status_code, words in refused.text) == (status, True), refused.text
    assert "5 open" in mara.get("/")


def test_a_whole_view_is_taken(mara: Person, database: Database, open_alerts: dict[str, str]) -> None:
    """It is then the view of what is with me."""
    page = mara.send("/bulk/assign", **_bulk(mara, "severity=low"))
    assert str(page.url).endswith("?severity=low&who=mine")
    assert "loom-analytics" in page.text
    with database.read() as connection:
        assert audit.recent(connection, limit=1)[0].action == "alert.assign"


def test_pages_of_the_queue_follow_each_other(mara: Person, database: Database, open_alerts: dict[str, str]) -> None:
    """The last alert of a page is the key of the next, and behind the last page is a way back."""
    with database.write() as connection:
        connection.execute(
            sa.insert(alerts.table),
            [
                vars(alerts.Alert(f"more-{n:03}", "novum-tutors", "low", 0.1, "open", now(), now(), [], {}))
                for n in range(60)
            ],
        )
    first = mara.get("/")
    following = re.search(r'href="(/\?after=[^"]+)"', first)
    assert following is not None
    second = mara.get(following.group(1))
    assert first.count('class="rowlink"') == 50
    assert second.count('class="rowlink"') == 15
    assert "First page" in second
    assert "That was all." in mara.get("/?after=more-000&severity=low&q=more-than-there-is")
