"""Log-in sessions: a signed cookie, a CSRF token that belongs to it, and a brake on guessing passwords."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from itsdangerous import BadSignature, URLSafeTimedSerializer

from gateway.ledger.operators import Operator

COOKIE = "spiritsafe_session"


@dataclass(frozen=True)
class Session:
    """A logged-in operator. `credential` is a fingerprint of the password hash: a new password ends old sessions."""

    id: str
    operator: str
    credential: str


class Sessions:
    """Makes and reads session cookies, signed with a key of this installation and valid for some hours.

    A log-out is remembered by this process until the session would have ended anyway.
    """

    def __init__(self, secret: bytes, hours: float) -> None:
        self.seconds = round(hours * 3600)
        self._key = hashlib.blake2b(b"sessions", key=secret, digest_size=32, person=b"console").digest()
        self._signer = URLSafeTimedSerializer(self._key, signer_kwargs={"digest_method": hashlib.sha256})
        self._closed: dict[str, float] = {}
        self._lock = threading.Lock()

    def open(self, operator: Operator) -> str:
        """Return the cookie of a new session."""
        return self._signer.dumps([secrets.token_urlsafe(16), operator.name, self.credential(operator)])

    def read(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None when it is forged, too old or logged out."""
        try:
            session = Session(*self._signer.loads(cookie, max_age=self.seconds))
        except BadSignature:
            return None
        return None if session.id in self._closed else session

    def close(self, session: Session) -> None:
        """End a session before its time."""
        moment = time.monotonic()
        with self._lock:
            self._closed = {known: end for known, end in self._closed.items() if end > moment}
            self._closed[session.id] = moment + self.seconds

    def credential(self, operator: Operator) -> str:
        """Return the fingerprint of an operator's present password hash."""
        return self._keyed("credential", operator.password_hash)

    def csrf(self, session: Session) -> str:
        """Return the token that every form of this session carries."""
        return self._keyed("csrf", session.id)

    def is_csrf(self, session: Session, token: str) -> bool:
        """Tell whether a form's token belongs to this session."""
        return hmac.compare_digest(self.csrf(session).encode(), token.encode())

    def _keyed(self, purpose: str, value: str) -> str:
        return hashlib.blake2b(f"{purpose}:{value}".encode(), key=self._key, digest_size=16).hexdigest()


@dataclass
class Throttle:
    """Counts failures per name in a sliding window; more than `limit` and the name must wait.

    It lives in memory and forgets at a restart; `capacity` bounds it against a flood of invented names.
    """

    limit: int
    window_s: float = 300.0
    capacity: int = 10_000
    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, list[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, name: str) -> float:
        """Return the seconds that this name must wait before the next try; 0.0 when it may try now."""
        with self._lock:
            recent = self._recent(name)
            return 0.0 if len(recent) < self.limit else self.window_s - (self.clock() - recent[-self.limit])

    def fail(self, name: str) -> None:
        """Count a failure."""
        with self._lock:
            recent = [*self._recent(name), self.clock()]
            self._failures.pop(name, None)
            while len(self._failures) >= self.capacity:
                self._failures.pop(next(iter(self._failures)))  # the name that failed longest ago
            self._failures[name] = recent

    def succeed(self, name: str) -> None:
        """Forget a name's failures."""
        with self._lock:
            self._failures.pop(name, None)

    def _recent(self, name: str) -> list[float]:
        start = self.clock() - self.window_s
        return [moment for moment in self._failures.get(name, ()) if moment > start]
