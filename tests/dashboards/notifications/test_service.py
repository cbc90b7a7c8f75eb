"""Alerts reach people by a real mail server and a real HTTP server, once, in time, and with nothing secret in them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dashboards.notifications import schedule, service
from dashboards.notifications.service import Metrics, Notifier
from gateway.ledger import accounts, alert_events, alerts, channels, metric_files
from gateway.ledger.alerts import Severity
from gateway.ledger.database import Database
from gateway.ledger.identifiers import now
from gateway.settings import ChannelSettings, NotificationSettings, Settings
from tests.control_plane import fresh
from tests.dashboards.notifications.receivers import Inbox, Mailbox, http_server, mail_server

KEY = b"a key of at least 24 bytes, for tests"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
REASONS = [{"feature": "unseen_share", "text": "asked <1,204> different things & came back to none"}]
EVIDENCE = {"examples": ["01990000-0000-7000-8000-000000000001"], "members": ["second", "third"]}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A control plane of the test's own, with some accounts."""
    opened = fresh(f"sqlite:///{tmp_path / 'data' / 'control.sqlite'}")
    with opened.write() as connection:
        for name in ("first", "second", "third"):
            accounts.create(connection, accounts.new(name), "tester")
    yield opened
    opened.close()


@pytest.fixture
def inbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """An HTTP server whose address and secret stand in the environment."""
    with http_server() as box:
        monkeypatch.setenv("HOOK_URL", box.url)
        monkeypatch.setenv("HOOK_SECRET", SECRET)
        yield box


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mail server."""
    with mail_server() as box:
        yield box


WEBHOOK = ChannelSettings("hook", "webhook", url_env="HOOK_URL", secret_env="HOOK_SECRET")
SLACK = ChannelSettings("talk", "slack", url_env="HOOK_URL")


def email_to(box: Mailbox, **changes: Any) -> ChannelSettings:
    """Return a channel that mails to a server of the tests."""
    given: dict[str, Any] = {"sender": "safe@house.example", "to": ("ann@house.example", "bob@house.example")}
    return ChannelSettings(
        "mail", "email", smtp_host="127.0.0.1", smtp_port=box.port, smtp_security="none", **given | changes
    )


def notifier(database: Database, channel: ChannelSettings, **settings: Any) -> Notifier:
    """Return a channel's notifier that has begun, so that it tells what happens from now on."""
    given = NotificationSettings(address="https://safe.example", channels=(channel,), **settings)
    made = Notifier(Settings(notifications=given), channel, database, Metrics())
    assert made.tell() is False
    return made


def raise_alert(database: Database, account: str = "first", severity: Severity = "high") -> str:
    """Raise an alert, or that of an account once more, and return its id."""
    with database.write() as connection:
        return alerts.raise_or_update(connection, account, severity, 0.9, REASONS, EVIDENCE)[0].id


def later(database: Database, by: timedelta) -> None:
    """Let time pass for what waits."""
    with database.write() as connection:
        for table, column in ((alert_events.table, "time"), (channels.table, "due"), (channels.table, "sent")):
            stored = sa.type_coerce(table.c[column], sa.BigInteger)
            moved = sa.type_coerce(stored - round(by.total_seconds() * 1000), table.c[column].type)
            connection.execute(sa.update(table).where(table.c[column].is_not(None)).values({column: moved}))


def test_a_webhook_is_signed_as_the_standard_says(database: Database, inbox: Inbox) -> None:
    """Id, timestamp and signature of the raw body can be checked by any library of standardwebhooks.com."""
    told = notifier(database, WEBHOOK)
    alert_id = raise_alert(database)
    assert told.tell() is True
    assert told.tell() is False, "it was told already"
    ((headers, body),) = inbox.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert headers["content-type"] == "application/json"
    document = json.loads(body)
    assert (document["type"], document["data"]["account"], document["data"]["accounts"]) == ("alert.opened", "first", 3)
    assert document["data"]["link"] == f"https://safe.example/alerts/{alert_id}"
    assert EVIDENCE["examples"][0].encode() not in body


def test_a_mail_says_who_and_why(database: Database, mailbox: Mailbox) -> None:
    """Subject, words and link, to everybody named; and no prompt, example or score."""
    told = notifier(database, email_to(mailbox))
    alert_id = raise_alert(database)
    assert told.tell() is True
    (mail,) = mailbox.mails
    assert mailbox.recipients == ["ann@house.example", "bob@house.example"]
    assert mail["Subject"] == "Spiritsafe: [high] first and 2 others: new"
    assert mail["Auto-Submitted"] == "auto-generated"
    text = mail.get_content()
    assert "asked <1,204> different things & came back to none" in text
    assert f"https://safe.example/alerts/{alert_id}" in text
    assert EVIDENCE["examples"][0] not in text


def test_slack_gets_text_that_no_name_can_turn_into_markup(database: Database, inbox: Inbox) -> None:
    """Angle brackets and ampersands of names and reasons are escaped; links are ours alone."""
    told = notifier(database, SLACK)
    with database.write() as connection:
        accounts.create(connection, accounts.new("<!channel>"), "tester")
    alert_id = raise_alert(database, "<!channel>")
    assert told.tell() is True
    text = json.loads(inbox.requests[0][1])["text"]
    assert "<!channel>" not in text
    assert f"<https://safe.example/alerts/{alert_id}|&lt;!channel&gt; and 2 others>" in text
    assert "&lt;1,204&gt; different things &amp; came" in text


def test_what_comes_together_is_told_together(database: Database, inbox: Inbox) -> None:
    """With a digest nothing goes out before its time, and then one message with the worst first."""
    told = notifier(database, ChannelSettings(**vars(WEBHOOK) | {"digest_minutes": 30.0, "severity": "low"}))
    raise_alert(database, "first", "low")
    raise_alert(database, "second", "high")
    raise_alert(database, "first", "medium")
    assert told.tell() is False
    later(database, timedelta(minutes=31))
    assert told.tell() is True
    document = json.loads(inbox.requests[0][1])
    assert document["type"] == "alert.digest"
    rows = document["data"]["alerts"]
    assert [(row["account"], row["severity"], row["event"]) for row in rows] == [
        ("second", "high", "opened"),
        ("first", "medium", "raised"),
    ]


def test_only_what_a_channel_asks_for_is_told(database: Database, inbox: Inbox) -> None:
    """Its severities and events; the others pass by and do not hold up what follows."""
    told = notifier(database, ChannelSettings(**vars(WEBHOOK) | {"events": ("decided",), "severity": "high"}))
    first, second = raise_alert(database, "first", "medium"), raise_alert(database, "second", "high")
    assert told.tell() is False
    with database.write() as connection:
        for alert_id in (first, second):
            alerts.decide(connection, alert_id, "dismiss", "ann", "a private note", finding="test_traffic")
    assert told.tell() is True
    body = inbox.requests[0][1]
    data = json.loads(body)["data"]
    assert (data["account"], data["decision"], data["finding"]) == ("second", "dismiss", "test_traffic")
    assert b"a private note" not in body


def test_quiet_hours_hold_back_what_does_not_wake(database: Database, inbox: Inbox) -> None:
    """A medium alert waits for the morning; a high one goes out, and what waited goes with it."""
    moment = now()
    quiet = f"{moment - timedelta(hours=1):%H:%M}-{moment + timedelta(hours=1):%H:%M}"
    told = notifier(database, WEBHOOK, quiet=quiet)
    raise_alert(database, "first", "medium")
    assert told.tell() is False
    raise_alert(database, "second", "high")
    assert told.tell() is True
    assert {row["account"] for row in json.loads(inbox.requests[0][1])["data"]["alerts"]} == {"first", "second"}


def test_a_failed_message_is_tried_again_with_the_same_id(
    database: Database, inbox: Inbox, caplog: pytest.LogCaptureFixture
) -> None:
    """After a pause that grows, about the same alerts; what came meanwhile is told after it. No log names the URL."""
    told = notifier(database, WEBHOOK)
    inbox.answers = [500, 302, 404]
    raise_alert(database, "first")
    caplog.set_level(logging.DEBUG)
    pauses = []
    for _ in range(3):
        assert told.tell() is False
        assert told.tell() is False, "it waits before the next try"
        with database.read() as connection:
            state = channels.get(connection, "hook")
        assert state is not None
        pauses.append((state.due - now()).total_seconds())
        raise_alert(database, "second")
        later(database, timedelta(hours=2))
    assert told.tell() is True
    assert 7 < pauses[0] < 13 < 15 < pauses[1] < 25 < 30 < pauses[2] < 50
    identities = [headers["webhook-id"] for headers, _ in inbox.requests]
    assert len(identities) == 4, "a redirect is not followed"
    assert len(set(identities)) == 1
    assert {json.loads(body)["data"]["account"] for _, body in inbox.requests} == {"first"}
    later(database, timedelta(minutes=1))
    assert told.tell() is True
    assert json.loads(inbox.requests[-1][1])["data"]["account"] == "second"
    assert "it answered 500" in str([vars(record) for record in caplog.records])
    assert "not-for-logs" not in str([vars(record) for record in caplog.records])
    assert SECRET not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda patch, _box: patch.delenv("HOOK_SECRET"), "HOOK_SECRET"),
        (lambda patch, _box: patch.setenv("HOOK_SECRET", "plain words"), "the signing secret is none"),
        (lambda patch, _box: patch.setenv("HOOK_URL", "ftp://not-for-logs"), "the URL in the environment is none"),
        (lambda patch, _box: patch.setenv("HOOK_URL", "http://[not-for-logs"), "can't be read"),
        (lambda patch, _box: patch.setenv("HOOK_URL", "http://127.0.0.1:9/not-for-logs"), "can't be reached"),
    ],
)
def test_what_is_wrong_is_said_without_the_secret(
    database: Database,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch, Inbox], None],
    why: str,
) -> None:
    """The channel's row, which the console shows, has the reason and what to do."""
    told = notifier(database, WEBHOOK)
    raise_alert(database)
    spoil(monkeypatch, inbox)
    assert told.tell() is False
    with database.read() as connection:
        state = channels.get(connection, "hook")
    assert state is not None
    assert why in (state.error or "")
    assert "not-for-logs" not in (state.error or "")
    assert "plain words" not in (state.error or "")


def test_a_mail_server_that_refuses_is_asked_again(database: Database, mailbox: Mailbox) -> None:
    """Its code is what is kept of the answer."""
    told = notifier(database, email_to(mailbox))
    raise_alert(database)
    mailbox.refuses = 451
    assert told.tell() is False
    mailbox.refuses = 0
    later(database, timedelta(minutes=1))
    assert told.tell() is True
    assert len(mailbox.mails) == 1


def test_of_two_processes_one_tells_it(database: Database, inbox: Inbox) -> None:
    """Both follow the same events; the one that claims them first sends, and a claim ends by itself."""
    first, second = notifier(database, WEBHOOK), notifier(database, WEBHOOK)
    raise_alert(database)
    with database.read() as connection:
        state = channels.get(connection, "hook")
    assert state is not None
    with database.write(announce=False) as connection:
        assert channels.claim(connection, state, 1, now() + timedelta(minutes=2))
        assert not channels.claim(connection, state, 1, now() + timedelta(minutes=2))
    assert first.tell() is second.tell() is False
    later(database, timedelta(minutes=3))
    assert [first.tell(), second.tell()] == [True, False]
    assert len(inbox.requests) == 1


def test_what_never_gets_through_is_given_up(database: Database, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted and logged, and what follows is told."""
    monkeypatch.setattr(schedule, "MOST_ATTEMPTS", 2)
    told = notifier(database, WEBHOOK)
    inbox.answers = [500, 500]
    raise_alert(database, "first")
    for _ in range(2):
        assert told.tell() is False
        later(database, timedelta(hours=2))
    raise_alert(database, "second")
    assert told.tell() is True
    assert json.loads(inbox.requests[-1][1])["data"]["account"] == "second"


def test_the_threads_tell_it_and_publish_their_metrics(
    database: Database, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started with the operator process, they need nobody; `/metrics` has what they sent, by channel."""
    monkeypatch.setattr(service, "PAUSE_S", 0.05)
    settings = Settings(data_dir=tmp_path / "data", notifications=NotificationSettings(channels=(WEBHOOK,)))
    stop = threading.Event()
    threads = service.start(settings, database, stop)
    try:
        _until(lambda: _state(database) is not None)
        raise_alert(database)
        _until(lambda: len(inbox.requests) == 1)
        line = 'spiritsafe_notifications_total{channel="hook",outcome="sent"} 1'
        _until(lambda: line in metric_files.merge(tmp_path / "data" / "metrics"))
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert service.start(Settings(data_dir=tmp_path), database, stop) == []


def _state(database: Database) -> channels.Channel | None:
    with database.read() as connection:
        return channels.get(connection, "hook")


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen within ten seconds"
        time.sleep(0.02)
