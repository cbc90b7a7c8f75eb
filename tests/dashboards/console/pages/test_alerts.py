"""The queue, an alert, and the decision about it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from dashboards.console import reveals
from gateway.ledger import accounts, alerts, audit, canaries, enforcement, registry
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from gateway.settings import Settings
from tests.dashboards import seed
from tests.dashboards.conftest import Person

NOTE = "Never the same question twice."


def test_the_queue_shows_the_most_pressing_first(mara: Person) -> None:
    """What leaks most, and most certainly, is on top; what is decided is elsewhere."""
    page = mara.get("/")
    places = [page.index(name) for name in ("tallow-research", "kitesurf-labs", "loom-analytics", "delphi-corpus")]
    assert places == sorted(places)
    assert "novum-tutors" not in page
    assert "still leaking" in page
    assert "5 open" in page


@pytest.mark.parametrize(
    ("query", "shown", "hidden"),
    [
        ("state=confirmed", "novum-tutors", "tallow-research"),
        ("severity=medium", "kitesurf-labs", "tallow-research"),
        ("q=probabilities", "kitesurf-labs", "tallow-research"),
        ("state=dismissed", "No alert matches", "tallow-research"),
    ],
)
def test_the_url_is_the_filter(mara: Person, query: str, shown: str, hidden: str) -> None:
    """State, severity and search are in the address, so that a view can be shared."""
    page = mara.get(f"/?{query}")
    assert shown in page
    assert hidden not in page


@pytest.mark.parametrize("decision", ["watch", "strip", "divert", "suspend"])
def test_a_decision_is_a_measure_and_a_row(
    mara: Person, database: Database, open_alerts: dict[str, str], decision: str
) -> None:
    """Suspending or diverting closes the alert, is in force for the days chosen, and is audited with its note."""
    alert_id = open_alerts["tallow-research"]
    response = mara.send(f"/alerts/{alert_id}/decide", decision=decision, days="3", note=NOTE)
    assert response.status_code == 200
    assert "on every worker within a second" in response.text
    with database.read() as connection:
        alert = alerts.get(connection, alert_id)
        measure = enforcement.in_force(connection)["tallow-research"]
        rows = {row.action: row for row in audit.recent(connection, subject="tallow-research")}
    assert (alert.state, alert.decision, alert.operator) == ("confirmed", decision, "mara")
    assert (measure.action, measure.alert) == (decision, alert_id)
    assert (measure.until - measure.created).days == 3
    assert rows[f"alert.{decision}"].reason == NOTE
    assert rows[f"enforce.{decision}"].actor == "mara"


def test_a_dismissal_puts_nothing_in_force(mara: Person, database: Database, open_alerts: dict[str, str]) -> None:
    """Dismissing closes the alert with its reason and leaves the account alone."""
    form = {"decision": "dismiss", "finding": "declared_use", "note": "A quarterly report run."}
    mara.send(f"/alerts/{open_alerts['loom-analytics']}/decide", **form)
    with database.read() as connection:
        alert = alerts.get(connection, open_alerts["loom-analytics"])
        assert "loom-analytics" not in enforcement.in_force(connection)
    assert (alert.state, alert.note) == ("dismissed", "A quarterly report run.")


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"decision": "suspend", "note": "  "}, 422, "needs a note"),
        ({"note": "Forgot the choice."}, 422, "choose dismiss or a step"),
        ({"decision": "ban", "note": "No such step."}, 422, "choose dismiss or a step"),
        ({"decision": "suspend", "days": "4000", "note": "For ever."}, 422, "choose an expiry"),
    ],
)
def test_an_incomplete_decision_says_what_is_missing(
    mara: Person, open_alerts: dict[str, str], form: dict[str, str], status: int, words: str
) -> None:
    """Nothing is decided, the page says why, and what was typed is still there."""
    response = mara.send(f"/alerts/{open_alerts['tallow-research']}/decide", **form)
    assert response.status_code == status
    assert words in response.text
    assert form["note"].strip() in response.text
    assert "5 open" in mara.get("/")


def test_a_diversion_without_a_student_names_the_remedy(
    mara: Person, database: Database, open_alerts: dict[str, str]
) -> None:
    """With no student promoted the page says so, and a form sent all the same is refused with the remedy."""
    with database.write() as connection:
        registry.rollback(connection, "ticket-router@3", "joel", "Making room.")
    alert_id = open_alerts["tallow-research"]
    assert "Not possible: no student is promoted" in mara.get(f"/alerts/{alert_id}")
    response = mara.send(f"/alerts/{alert_id}/decide", decision="divert", note="Worth a try.")
    assert response.status_code == 409
    assert "spiritsafe models promote" in response.text


def test_an_alert_is_decided_once(mara: Person, joel: Person, open_alerts: dict[str, str]) -> None:
    """The second of two people learns who was first, and changes nothing."""
    path = f"/alerts/{open_alerts['tallow-research']}/decide"
    mara.send(path, decision="suspend", note="Clear enough.")
    response = joel.send(path, decision="dismiss", finding="other", note="Looks fine to me.")
    assert response.status_code == 409
    assert "decided already (suspend by mara)" in response.text.replace("&#39;", "'")


def test_prompts_are_covered_until_a_reason_is_given(
    mara: Person, joel: Person, database: Database, open_alerts: dict[str, str]
) -> None:
    """Nothing of a prompt is in the page; a reveal needs a reason, is audited, and opens them to that person alone."""
    alert_id = open_alerts["tallow-research"]
    assert "Saint-Malo" not in mara.get(f"/alerts/{alert_id}")
    refused = mara.send(f"/alerts/{alert_id}/reveal", reason="because")
    assert refused.status_code == 422
    assert "Saint-Malo" not in refused.text
    opened = mara.send(f"/alerts/{alert_id}/reveal", reason="To see whether they are exam questions")
    assert seed.SECRET_PROMPT in opened.text
    with database.read() as connection:
        row = audit.recent(connection, limit=1, subject="tallow-research")[0]
    assert (row.actor, row.action) == ("mara", "prompts.reveal")
    assert row.reason == "To see whether they are exam questions"
    assert len(row.detail["records"]) == 3
    assert "Saint-Malo" not in joel.get(f"/alerts/{alert_id}?revealed={row.id}")
    assert "Saint-Malo" not in mara.get(f"/alerts/{open_alerts['kitesurf-labs']}?revealed={row.id}")


def test_a_reveal_closes_after_ten_minutes(
    mara: Person, open_alerts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of an opened page shows shapes again later."""
    alert_id = open_alerts["tallow-research"]
    opened = mara.send(f"/alerts/{alert_id}/reveal", reason="To read the examples")
    assert "Saint-Malo" in opened.text
    monkeypatch.setattr(reveals, "now", lambda: now() + timedelta(minutes=10, seconds=1))
    assert "Saint-Malo" not in mara.get(opened.url.raw_path.decode())


def test_markup_in_names_reasons_and_prompts_stays_text(mara: Person, settings: Settings, database: Database) -> None:
    """What accounts write is shown and never run: in the queue, in the alert, revealed, and in the account's page."""
    evil = "<script>alert(1)</script>"
    record = {
        "id": evil,
        "time": "2026-11-24T00:00:00.000Z",
        "account": evil,
        "endpoint": "chat.completions",
        "model": evil,
        "status": 200,
        "messages": [{"role": evil, "content": f"{evil} and more"}],
    }
    Lake(settings.data_dir / "lake" / "traffic").append(to_table([record]))
    reasons = [{"feature": evil, "value": 1.0, "own_baseline": None, "peer_median": 0.1, "text": evil}]
    with database.write() as connection:
        accounts.create(connection, accounts.new(evil), "cli:root")
        alert, _new = alerts.raise_or_update(connection, evil, "high", 0.99, reasons, {"examples": [evil]})
    revealed = mara.send(f"/alerts/{alert.id}/reveal", reason=f"look at {evil}")
    paths = ("/", "/audit", "/accounts", f"/accounts/{quote(evil, safe='')}")
    for page in (revealed.text, *map(mara.get, paths)):
        assert evil not in page
        assert "&lt;script&gt;" in page


def test_every_step_says_what_it_would_have_done(mara: Person, open_alerts: dict[str, str]) -> None:
    """All six, with a share of the teacher's tokens and the whole arithmetic on hover; a cap is proposed."""
    address = f"/alerts/{open_alerts['tallow-research']}"
    page, pieces, whole = (mara.get(address + end) for end in ("", "/ladder", "?estimate=1"))
    assert "stops 100" not in page, "the page waits for the traffic to be read"
    for title in ("Watch", "Strip", "Divert to the student", "Cap the teacher’s tokens", "Suspend"):
        assert f"<b>{title}</b>" in page
    for text in (pieces, whole):
        assert "stops 100" in text
        assert "Would have stopped 100% of the teacher tokens of the last 7 days" in text
    assert pieces.count("data-forecast=") == page.count("data-place=") == 6
    assert _refused_by_a_cap(mara.get(f"{address}/ladder?tokens=1")) > _refused_by_a_cap(pieces) > 0
    assert re.search(r'id="tokens"[^>]*value="[1-9]\d{3,}"', page)


def _refused_by_a_cap(pieces: str) -> int:
    found = re.search(r'data-forecast="cap"[^>]*>[^<]*refuses (\d+) requests', pieces)
    return int(found[1]) if found else 0


def test_examples_that_are_gone_are_said_to_be(mara: Person, database: Database) -> None:
    """Records that retention has taken out of the lake leave their ids, and the page stands."""
    with database.write() as connection:
        alert, _new = alerts.raise_or_update(connection, "papercrane-notes", "low", 0.5, [], {"examples": ["gone"]})
    page = mara.get(f"/alerts/{alert.id}")
    assert "not in the lake" in page
    assert "The detector gave no reason." in page


def test_a_cap_is_decided_with_its_number(mara: Person, database: Database, open_alerts: dict[str, str]) -> None:
    """Without one nothing is decided."""
    path = f"/alerts/{open_alerts['tallow-research']}/decide"
    assert "give a cap" in mara.send(path, decision="cap", note=NOTE, tokens="a lot").text
    assert "Capped, on every worker" in mara.send(path, decision="cap", note=NOTE, tokens="2500").text
    with database.read() as connection:
        assert enforcement.in_force(connection)["tallow-research"].tokens_per_day == 2500


def test_a_set_is_hit_and_let_go_from_one_page(
    mara: Person, joel: Person, database: Database, open_alerts: dict[str, str]
) -> None:
    """The panel names who is hit; undoing needs a reason, frees all of them and opens the alert."""
    alert_id = open_alerts["tallow-research"]
    with database.write() as connection:
        evidence = alerts.get(connection, alert_id).evidence | {"members": ["kitesurf-labs"]}
        connection.execute(alerts.table.update().where(alerts.table.c.id == alert_id).values(evidence=evidence))
    assert "hits all 2 accounts of the set at once" in mara.get(f"/alerts/{alert_id}")
    mara.send(f"/alerts/{alert_id}/decide", decision="suspend", note=NOTE)
    with database.read() as connection:
        assert {"tallow-research", "kitesurf-labs"} <= set(enforcement.in_force(connection))
    assert joel.send(f"/alerts/{alert_id}/undo", note=" ").status_code == 422
    assert "Taken back, on every worker" in joel.send(f"/alerts/{alert_id}/undo", note="The wrong set.").text
    with database.read() as connection:
        assert not {"tallow-research", "kitesurf-labs"} & set(enforcement.in_force(connection))
    assert joel.send(f"/alerts/{alert_id}/undo", note="Again.").status_code == 422


def test_an_appeal_opens_the_alert_with_its_words(mara: Person, open_alerts: dict[str, str]) -> None:
    """What the account says stands on the page, and what is in force stays."""
    alert_id = open_alerts["tallow-research"]
    mara.send(f"/alerts/{alert_id}/decide", decision="suspend", note=NOTE)
    page = mara.send(f"/alerts/{alert_id}/appeal", note="It is our exam season.").text
    assert "open again; what is in force stays" in page
    assert "It is our exam season." in page
    assert "In force now" in page


def test_a_canarys_alert_is_nobodys_work(mara: Person, database: Database) -> None:
    """It is in no list, whatever its state; the page of its account has it."""
    with database.write() as connection:
        canaries.ensure(connection, "canary-9", "test")
        alert, _ = alerts.raise_or_update(connection, "canary-9", "medium", 0.5, [], {"canary": True})
        alerts.decide(connection, alert.id, "dismiss", "detector", "an account of our own")
    assert "canary-9" not in mara.get("/?state=dismissed") + mara.get("/?state=all")
    assert alert.id in mara.get("/accounts/canary-9")


def test_what_was_taken_stands_on_the_alert_it_was_assessed_for(
    mara: Person, database: Database, open_alerts: dict[str, str]
) -> None:
    """The newest figures of this alert and who looked; nothing where nobody has."""
    alert_id = open_alerts["tallow-research"]
    assert "What was taken" not in mara.get(f"/alerts/{alert_id}")
    probe = {"seeds": 3, "rows": 500}
    with database.write() as connection:
        for alert, gain in ((alert_id, 0.1), (alert_id, 0.3125), ("another", 0.9)):
            own = {"gain": gain, "low": gain - 0.1, "high": gain + 0.1, "rows": 77}
            figures: dict[str, Any] = {"probe": probe, "domain": own, "general": own | {"gain": -0.5}}
            audit.record(connection, "joel", "alert.assessed", "tallow-research", alert=alert, **figures)
    page = mara.get(f"/alerts/{alert_id}")
    for words in ("What was taken", "joel assessed it", "+0.312", "-0.500", "500"):
        assert words in page
    assert "+0.900" not in page
