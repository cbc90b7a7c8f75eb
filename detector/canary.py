"""A canary: an account of our own harvests a little through the real endpoint, and the alert has to come.

Everything in between is tried: endpoint, spool, ingester, lake, features, score, alert. What it asks is what the rule
of bulk harvesting (`detector/rules.py`) looks for, so that it costs little; how well the trees see, the benchmark says.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from detector.evaluation.corpora import own
from gateway.ledger import alerts, canaries, house_status, keys
from gateway.ledger.alerts import Alert
from gateway.ledger.canaries import Canary
from gateway.ledger.database import Database
from gateway.ledger.errors import InvalidValue
from gateway.ledger.identifiers import now
from gateway.settings import Settings

AT_ONCE = 4  # open requests
POLL_S = 1.0
KEY_KNOWN_WITHIN_S = 15.0
ANSWER_WITHIN_S = 120.0
ENDPOINT = "chat.completions"


def endpoint(settings: Settings) -> str:
    """Return the address of this machine's endpoint; `InvalidValue` where the settings leave it open and none runs."""
    host, port = settings.gateway.host, settings.gateway.port
    if port:
        return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{port}"
    status = house_status.read(settings.data_dir)
    found = [each.url for each in status.processes if each.kind == "gateway" and each.url] if status else []
    if not found:
        raise InvalidValue("`gateway.port` is 0 and no gateway runs here: name the endpoint's address with --url")
    return found[0]


def prompts(rng: random.Random, count: int) -> list[str]:
    """Draw unrelated instructions of our own making, in five languages, none twice."""
    texts = sorted({item.text for corpus in own.ADAPTER.load(Path()) for item in corpus.items})
    return rng.sample(texts, count)


@dataclass
class Sent:
    """What became of the requests; `problem` is the newest failure."""

    answered: int = 0
    failed: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """One run: at most `requests`, answers of at most `max_tokens`, until an alert comes or `within` is over."""

    settings: Settings
    database: Database
    account: str
    requests: int
    max_tokens: int
    within: timedelta
    url: str

    def fly(self, actor: str) -> Canary:
        """Harvest, wait for the alert, and note in the control plane what came of it."""
        if self.requests <= self.settings.detector.minimum_requests:
            raise InvalidValue(
                f"the detector says nothing before {self.settings.detector.minimum_requests} requests "
                "(`detector.minimum_requests`): give more with --requests"
            )
        with self._key(actor) as key:
            began = now()
            deadline = time.monotonic() + self.within.total_seconds()
            sent = Sent()
            alert = self._harvest(key, began, deadline, sent)
            while alert is None and sent.answered and time.monotonic() < deadline:
                time.sleep(POLL_S)
                alert = self._alert(began)
        return self._note(alert, began, sent)

    @contextlib.contextmanager
    def _key(self, actor: str) -> Iterator[str]:
        """Make a key that can do no more than this run needs, and end it afterwards."""
        scope = keys.Scope((self.settings.teacher.name,), (ENDPOINT,), self.max_tokens)
        with self.database.write() as connection:
            canaries.ensure(connection, self.account, actor)
            pepper = keys.ensure_secret(connection, self.settings.data_dir)
            expires = now() + self.within + timedelta(seconds=KEY_KNOWN_WITHIN_S + ANSWER_WITHIN_S)
            row, key = keys.create(connection, pepper, self.account, actor, scope=scope, expires=expires)
        try:
            yield key
        finally:
            with self.database.write() as connection:
                keys.revoke(connection, row.id, actor)

    def _harvest(self, key: str, began: datetime, deadline: float, sent: Sent) -> Alert | None:
        self._await_key(key, sent)
        waiting = iter(prompts(random.Random(), self.requests))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while time.monotonic() < deadline:
                batch = list(itertools.islice(waiting, AT_ONCE * 4))
                if not batch:
                    return None
                for problem in pool.map(lambda text: self._ask(key, text), batch):
                    sent.answered += not problem
                    sent.failed += bool(problem)
                    sent.problem = problem or sent.problem
                if (alert := self._alert(began)) is not None:
                    return alert
                if not sent.answered:
                    return None
        return None

    def _await_key(self, key: str, sent: Sent) -> None:
        """Wait until the workers know the key."""
        request = urllib.request.Request(f"{self.url}/v1/models", headers={"authorization": f"Bearer {key}"})
        deadline = time.monotonic() + KEY_KNOWN_WITHIN_S
        while (problem := self._problem(request)) and time.monotonic() < deadline:
            sent.problem = problem
            time.sleep(0.2)

    def _ask(self, key: str, text: str) -> str:
        body = {
            "model": self.settings.teacher.name,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": self.max_tokens,
        }
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        return self._problem(request)

    def _problem(self, request: urllib.request.Request) -> str:
        """Send a request; return what went wrong, or nothing."""
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            return f"the endpoint answers {error.code}"
        except OSError as error:
            return f"{self.url} does not answer: {error}"
        return ""

    def _alert(self, since: datetime) -> Alert | None:
        with self.database.read() as connection:
            found = alerts.every(connection, account=self.account)
        return next((alert for alert in found if alert.opened >= since), None)

    def _note(self, alert: Alert | None, began: datetime, sent: Sent) -> Canary:
        with self.database.write() as connection:
            if alert is None:
                return canaries.note_missed(connection, self.account, self._why(sent))
            requests = int(alert.evidence["requests_before_alert"])
            return canaries.note_found(connection, self.account, requests, (alert.opened - began).total_seconds())

    def _why(self, sent: Sent) -> str:
        if not sent.answered:
            return sent.problem or "nothing was answered"
        asked = f"{sent.answered} requests were answered" + (f", {sent.failed} failed" if sent.failed else "")
        return f"{asked}, and there was no alert after {self.within.total_seconds():.0f} s"
