"""Who calls: a key, looked up in the control state in memory; the request path asks no database."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from gateway.errors import NoControlState, Unauthenticated, UnknownKey
from gateway.ledger import control
from gateway.ledger.accounts import Account
from gateway.ledger.control import ControlState
from gateway.ledger.database import Database
from gateway.ledger.errors import LedgerError
from gateway.ledger.identifiers import now
from gateway.ledger.keys import Key, hash_key
from gateway.ledger.registry import Student
from gateway.ledger.watching import POLL_S, Watch
from gateway.protocol.head import Head

FRESH_S = 1.0  # within which a change is known everywhere
_CANT_CHECK = "The service can't check keys at the moment: try again shortly."

logger = logging.getLogger(__name__)


class ControlFollower:
    """Keeps the control state of this process: a thread that watches the revision and reloads when it moves.

    While the database is away the last good state serves for `max_age_s`. `on_load` gets every new state, in the
    thread. The database is only read, never made here: a file that vanished must not come back empty, which would turn
    every key into an unknown one.
    """

    def __init__(self, url: str, max_age_s: float, on_load: Callable[[ControlState], None]) -> None:
        self._url = url
        self.max_age_s = max_age_s
        self._on_load = on_load
        self._state: ControlState | None = None
        self._confirmed = 0.0  # time.monotonic() when the database last said that the state is the newest
        self._reachable = True
        self._file: tuple[int, int] | None = None
        self._database: Database | None = None
        self._watch: Watch | None = None
        self._one_at_a_time = threading.Lock()  # a state read earlier must not replace a later one
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-follower", daemon=True)

    def start(self) -> None:
        """Try once to load the state, so that a healthy start serves at once, then follow it in the thread."""
        self.poll()
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(timeout=5.0)

    @property
    def students(self) -> tuple[Student, ...]:
        """The served students as last known, whatever the age of that."""
        return self._state.students if self._state is not None else ()

    @property
    def age_s(self) -> float:
        """Seconds since the database last confirmed the state; infinite without one."""
        return time.monotonic() - self._confirmed if self._state is not None else float("inf")

    def current(self) -> ControlState:
        """Return the state to decide by; `NoControlState` when there is none or it is too old."""
        state = self._state
        if state is None:
            raise NoControlState("The service is starting: try again shortly.")
        if self.age_s > self.max_age_s:
            raise NoControlState(_CANT_CHECK, retry_after=5.0)
        return state

    def check_fresh(self) -> None:
        """Raise `NoControlState` where the state may lack what was decided more than a second ago."""
        if self.age_s > FRESH_S:
            raise NoControlState(_CANT_CHECK, retry_after=5.0)

    def poll(self) -> None:
        """Ask for the revision and load the state when it is new; a failure is logged once, when it begins."""
        with self._noting_failures(), self._one_at_a_time:
            self._poll()

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError, LedgerError, ValueError) as error:
            if self._reachable:
                logger.warning("control plane unreachable, its last state serves: %s", error)
            self._reachable = False

    def _poll(self) -> None:
        asked = time.monotonic()
        database, watch = self._open()
        revision = watch.revision()
        # Whatever was missed while it was away: the state is read anew, even if the revision looks the same.
        if self._state is None or not self._reachable or revision != self._state.revision:
            self._use(control.load(database))
        if not self._reachable:
            logger.warning("control plane reachable again")
        self._reachable = True
        self._confirmed = asked

    def _use(self, loaded: ControlState) -> None:
        try:
            self._on_load(loaded)
        except Exception:
            # A revocation binds whatever is wrong with the models.
            logger.exception("the models of the new control state can't be used, the last ones serve")
        self._state = loaded

    def _open(self) -> tuple[Database, Watch]:
        path = sa.make_url(self._url).database if self._url.startswith("sqlite") else None
        if path:
            found = Path(path).stat()
            if self._file != (found.st_dev, found.st_ino) and self._database is not None:
                # SQLite would go on reading a file that was replaced.
                self._close()
                self._reachable = False
            self._file = (found.st_dev, found.st_ino)
        if self._database is None or self._watch is None:
            self._database = Database(self._url)
            self._watch = self._database.watch()
        return self._database, self._watch

    def _close(self) -> None:
        if self._watch is not None:
            self._watch.close()
        if self._database is not None:
            self._database.close()
        self._database = self._watch = None

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._wait()
                self.poll()
            except Exception:
                # The thread is what makes revocations binding: it must outlive what we did not foresee.
                logger.exception("the control state could not be followed")
                self._stop.wait(POLL_S)
        self._close()

    def _wait(self) -> None:
        with self._noting_failures():
            if self._watch is None:
                self._stop.wait(POLL_S)
            else:
                self._watch.wait(self._stop)


def presented_key(headers: dict[bytes, bytes]) -> bytes:
    """Return the key that a client sent, as OpenAI's send it or as Anthropic's do (`x-api-key`); empty without one."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return headers.get(b"x-api-key", b"").strip()


@dataclass(frozen=True)
class Identity:
    """Whose key a head presents, as one control state knows it."""

    state: ControlState
    account: Account
    key: Key


def authenticate(head: Head, secret: bytes, state: ControlState, moment: datetime | None = None) -> Identity:
    """Return the account and key of a request; `Unauthenticated` only for a missing or expired key, or `UnknownKey`.

    Whether a key has expired is asked of `moment`, by default the present one.
    """
    found = head.identity
    if not isinstance(found, Identity) or found.state is not state:
        found = head.identity = _identify(presented_key(head.headers), secret, state)
    if found.key.expires is not None and found.key.is_over(moment or now()):
        # At the moment itself, not when the state is next loaded.
        raise Unauthenticated("This API key has expired: ask the operator of this service for a new one.")
    return found


def _identify(token: bytes, secret: bytes, state: ControlState) -> Identity:
    if not token:
        raise Unauthenticated("You didn't provide an API key: send it in a header, Authorization: Bearer YOUR_KEY.")
    key = state.keys.get(hash_key(secret, token.decode("latin-1")))
    account = state.accounts.get(key.account) if key is not None else None
    if key is None or account is None:
        raise UnknownKey("Incorrect API key provided: ask the operator of this service for a valid one.")
    return Identity(state, account, key)
