"""Session cookies and the brake on guessing."""

from __future__ import annotations

import dataclasses
import time

import pytest

from dashboards.console.sessions import Sessions, Throttle
from gateway.ledger.identifiers import now
from gateway.ledger.operators import Operator

SECRET = bytes(range(32))
MARA = Operator("mara", "a hash", b"", now())


def test_a_cookie_reads_back_as_its_operator() -> None:
    """What was opened is read as the same person."""
    session = Sessions(SECRET, 1).read(Sessions(SECRET, 1).open(MARA))
    assert session is not None
    assert session.operator == "mara"


@pytest.mark.parametrize("cookie", ["", "nonsense", "WyJhIiwibWFyYSIsImIiXQ.aaaa.bbbb"])
def test_a_forged_cookie_is_nobody(cookie: str) -> None:
    """A cookie that this installation did not sign opens nothing."""
    assert Sessions(SECRET, 1).read(cookie) is None


def test_another_installations_cookie_is_nobody() -> None:
    """The signature depends on the installation's secret."""
    assert Sessions(SECRET, 1).read(Sessions(bytes(32), 1).open(MARA)) is None


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie older than the session's hours is nobody."""
    sessions = Sessions(SECRET, 2)
    cookie = sessions.open(MARA)
    later = time.time() + 2 * 3600 + 2
    monkeypatch.setattr(time, "time", lambda: later)
    assert sessions.read(cookie) is None


def test_a_log_out_ends_that_session_only() -> None:
    """Closing one session leaves the operator's other one open."""
    sessions = Sessions(SECRET, 1)
    first, second = sessions.open(MARA), sessions.open(MARA)
    session = sessions.read(first)
    assert session is not None
    sessions.close(session)
    assert sessions.read(first) is None
    assert sessions.read(second) is not None


def test_a_new_password_is_another_credential() -> None:
    """The fingerprint in the cookie changes with the stored hash, so old sessions can be told."""
    sessions = Sessions(SECRET, 1)
    assert sessions.credential(MARA) != sessions.credential(dataclasses.replace(MARA, password_hash="another hash"))


def test_a_form_token_belongs_to_one_session() -> None:
    """The token of one session is wrong in another of the same person."""
    sessions = Sessions(SECRET, 1)
    first, second = sessions.read(sessions.open(MARA)), sessions.read(sessions.open(MARA))
    assert first is not None
    assert second is not None
    assert sessions.is_csrf(first, sessions.csrf(first))
    assert not sessions.is_csrf(second, sessions.csrf(first))
    assert not sessions.is_csrf(first, "")


def test_the_throttle_makes_a_name_wait_until_its_window_has_passed() -> None:
    """Reaching the limit costs the rest of the window, and other names nothing."""
    moment = [0.0]
    throttle = Throttle(limit=3, window_s=60, clock=lambda: moment[0])
    for _ in range(3):
        assert throttle.wait("mara") == 0.0
        throttle.fail("mara")
        moment[0] += 5
    assert throttle.wait("mara") == pytest.approx(45)
    assert throttle.wait("joel") == 0.0
    moment[0] += 46
    assert throttle.wait("mara") == 0.0


def test_the_throttle_keeps_a_bounded_number_of_names() -> None:
    """A flood of invented names can't fill the memory; the newest are kept."""
    throttle = Throttle(limit=1, capacity=10)
    for number in range(50):
        throttle.fail(f"name-{number}")
    assert throttle.wait("name-49") > 0
    assert throttle.wait("name-1") == 0.0
