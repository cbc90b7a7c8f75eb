"""The console as a part of the operator process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dashboards.console.headers import POLICY
from dashboards.console.traffic import Traffic
from gateway.ledger.database import Database
from gateway.operator import create_app
from gateway.settings import Settings
from tests.dashboards import seed
from tests.dashboards.conftest import Person, log_in

PAGES = ("/", "/accounts", "/models", "/snapshots", "/policies", "/audit", "/bulk", "/notifications")


@pytest.mark.parametrize("path", ["/login", "/", "/static/console.css", "/nowhere"])
def test_every_answer_carries_the_headers(stranger: TestClient, path: str) -> None:
    """Pages, redirects, files and errors alike forbid inline code, other origins, frames and sniffing."""
    headers = stranger.get(path, follow_redirects=False).headers
    assert headers["content-security-policy"] == POLICY
    assert "'unsafe" not in POLICY
    assert "default-src 'none'" in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


def test_pages_are_not_kept(mara: Person) -> None:
    """A page with an account's figures stays in no cache."""
    assert mara.client.get("/").headers["cache-control"] == "no-store"


def test_every_page_asks_who_is_there(stranger: TestClient) -> None:
    """Without a session every page leads to the log-in, and back afterwards."""
    for path in (*PAGES, "/alerts/x", "/accounts/x", "/models/x@1", "/snapshots/12345678"):
        response = stranger.get(path, follow_redirects=False)
        assert response.status_code == 303
        assert response.headers["location"].startswith("/login")


def test_a_page_has_one_heading_a_title_and_landmarks(mara: Person, open_alerts: dict[str, str]) -> None:
    """A page can be found one's way around in without seeing it, and holds nothing inline."""
    singles = [f"/alerts/{alert_id}" for alert_id in open_alerts.values()]
    singles += ["/models/ticket-router@4", "/models/reply-drafts@1", f"/snapshots/{seed.SNAPSHOT}"]
    for path in (*PAGES, *singles, "/accounts/novum-tutors", "/accounts?by=model"):
        page = mara.get(path)
        assert page.count("<h1") == 1
        assert "<main" in page
        assert '<html lang="en">' in page
        assert "<title>" in page
        assert "<th>" not in page, "every header cell has a scope"
        assert " style=" not in page
        assert "onclick" not in page


def test_the_first_day_has_pages_too(empty_app: FastAPI) -> None:
    """A house without accounts, traffic or students shows what to do next instead of failing."""
    mara = log_in(empty_app, "mara")
    for path in PAGES:
        assert "<h1" in mara.get(path)
    assert "Nothing to decide." in mara.get("/")


def test_what_is_not_there_is_a_page_of_its_own(mara: Person) -> None:
    """A wrong address gets 404 in the console's own style, with a way back."""
    for path in ("/nowhere", "/alerts/nothing", "/accounts/nobody", "/models/none@1", "/snapshots/0000"):
        response = mara.client.get(path)
        assert response.status_code == 404
        assert "Back to the queue" in response.text


def test_what_breaks_is_a_page_of_its_own(app: FastAPI, mara: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault is 500 with no detail of it in the page, and with the headers all the same."""

    def broken(_self: Traffic) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Traffic, "figures", broken)
    client = TestClient(app, headers={"accept": "text/html"}, raise_server_exceptions=False)
    client.cookies = mara.client.cookies
    response = client.get("http://127.0.0.1:8081/")
    assert response.status_code == 500
    assert "Something broke" in response.text
    assert "secret detail" not in response.text
    assert response.headers["content-security-policy"] == POLICY


def test_the_operator_process_serves_the_console_beside_its_own(settings: Settings, database: Database) -> None:
    """The entry point leads here: pages, the admin API and the health check share a port and none hides another."""
    client = TestClient(create_app(settings, database))
    assert "Log in" in client.get("/").text
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/metrics").status_code == 200
    refused = client.get("/admin/v1/accounts")
    assert refused.status_code == 401
    assert "message" in refused.json()["error"]


def test_callers_of_the_api_get_json(stranger: TestClient) -> None:
    """What no route of the admin API takes falls through to the console, whose answer is then JSON."""
    response = stranger.get("/admin/v1/nowhere", headers={"accept": "application/json"})
    assert response.status_code == 404
    assert response.json()["error"]["type"] == "not_found"


FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/alerts/{alert}/decide", {"decision": "suspend", "note": "no token"}),
    ("/alerts/{alert}/assign", {"to": "mara"}),
    ("/bulk", {"decision": "dismiss", "finding": "other", "note": "no token"}),
    ("/bulk/assign", {}),
    ("/bulk/some/undo", {"note": "no token"}),
    ("/looked", {}),
    ("/views", {"name": "none", "query": "severity=high"}),
    ("/views/remove", {"name": "none"}),
    ("/notifications/some/test", {}),
    ("/alerts/{alert}/reveal", {"reason": "no token here"}),
    ("/accounts/novum-tutors/clear", {"note": "no token"}),
    ("/models/ticket-router@4/promote", {"note": "no token"}),
    (f"/snapshots/{seed.SNAPSHOT}/approve", {"note": "no token"}),
    (f"/snapshots/{seed.SNAPSHOT}/reveal", {"reason": "no token here"}),
    ("/logout", {}),
)


@pytest.mark.parametrize("spoil", ["missing", "wrong", "cross-site"])
def test_a_form_without_this_sessions_token_does_nothing(
    mara: Person, open_alerts: dict[str, str], spoil: str, audit_rows: Callable[[], int]
) -> None:
    """Every form needs the session's own token and must come from this site; else 403 and no row anywhere."""
    before = audit_rows()
    token = {"missing": "", "wrong": "0" * 32, "cross-site": mara.token()}[spoil]
    headers = {"sec-fetch-site": "cross-site" if spoil == "cross-site" else "same-origin"}
    for path, form in FORMS:
        url = path.format(alert=open_alerts["tallow-research"])
        response = mara.client.post(url, data={**form, "csrf": token}, headers=headers)
        assert response.status_code == 403, path
    assert audit_rows() == before
