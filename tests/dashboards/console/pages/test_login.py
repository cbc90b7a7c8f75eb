"""Log-in and log-out."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dashboards.console.pages.login import local
from dashboards.console.sessions import COOKIE
from gateway.ledger import audit
from gateway.ledger.database import Database
from tests.dashboards import seed
from tests.dashboards.conftest import Person, browser_of, console_in


def _try(client: TestClient, name: str = "mara", password: str = "wrong", **form: str) -> int:
    return client.post("/login", data={"name": name, "password": password, **form}, follow_redirects=False).status_code


def test_the_right_password_opens_a_strict_session(stranger: TestClient) -> None:
    """The cookie is out of scripts' reach, never sent from other sites, and ends by itself."""
    response = stranger.post("/login", data={"name": "mara", "password": seed.PASSWORD}, follow_redirects=False)
    assert response.status_code == 303
    cookie = response.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "max-age=43200" in cookie
    assert "secure" not in cookie  # over plain HTTP on loopback a secure cookie would never come back


def test_over_tls_the_cookie_is_secure(stranger: TestClient) -> None:
    """Behind HTTPS the cookie never travels in the clear."""
    form = {"name": "mara", "password": seed.PASSWORD}
    response = stranger.post("https://127.0.0.1:8081/login", data=form, follow_redirects=False)
    assert "secure" in response.headers["set-cookie"].lower()


def test_wrong_passwords_and_unknown_names_read_alike(stranger: TestClient) -> None:
    """The answer does not tell which names exist."""
    wrong = stranger.post("/login", data={"name": "mara", "password": "wrong"})
    unknown = stranger.post("/login", data={"name": "nadia", "password": "wrong"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.text.replace("mara", "") == unknown.text.replace("nadia", "")


def test_a_failed_log_in_is_audited(stranger: TestClient, database: Database) -> None:
    """Who was tried, from where, is a row; the password is not in it."""
    _try(stranger, password="hunter22-secret")
    with database.read() as connection:
        row = audit.recent(connection, limit=1)[0]
    assert (row.action, row.subject) == ("operator.login_failed", "mara")
    assert "hunter22-secret" not in str(row)


def test_guessing_a_name_is_slowed_down(app: FastAPI, stranger: TestClient) -> None:
    """After so many wrong passwords even the right one must wait, and another name need not."""
    assert console_in(app).by_name.limit == 5
    console_in(app).by_name.limit = 2  # hashing passwords takes its time by design
    assert [_try(stranger) for _ in range(3)] == [401, 401, 429]
    assert _try(stranger, password=seed.PASSWORD) == 429
    assert _try(stranger, "joel", seed.PASSWORD) == 303


def test_guessing_from_one_address_is_slowed_down(app: FastAPI, stranger: TestClient) -> None:
    """Trying many names from one place is stopped too."""
    assert console_in(app).by_address.limit == 20
    console_in(app).by_address.limit = 2
    assert [_try(stranger, name) for name in ("ada", "ben", "mara")] == [401, 401, 429]


def test_a_log_in_form_of_another_site_is_refused(stranger: TestClient) -> None:
    """Nobody can be logged in as somebody else by a page elsewhere."""
    form = {"name": "mara", "password": seed.PASSWORD}
    assert stranger.post("/login", data=form, headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_after_the_log_in_one_is_where_one_wanted_to_be(app: FastAPI) -> None:
    """The page asked for comes back, with its filters."""
    client = browser_of(app)
    landing = client.get("/accounts?period=7&q=loom")
    assert landing.url.path == "/login"
    form = {"name": "mara", "password": seed.PASSWORD, "next": landing.url.params["next"]}
    assert str(client.post("/login", data=form).url).endswith("/accounts?period=7&q=loom")


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/\n/x"])
def test_a_log_in_never_leads_elsewhere(target: str) -> None:
    """A target outside the console becomes the queue."""
    assert local(target) == "/"


def test_a_log_out_ends_the_session_itself(mara: Person) -> None:
    """A copy of the cookie is worth nothing afterwards."""
    cookie = mara.client.cookies[COOKIE]
    assert mara.send("/logout").url.path == "/login"
    mara.client.cookies.set(COOKIE, cookie)
    assert mara.client.get("/", follow_redirects=False).status_code == 303
