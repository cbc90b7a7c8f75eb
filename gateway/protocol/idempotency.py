"""Idempotency keys: a request that was sent twice must not be answered, and paid for, twice at the same time."""

from __future__ import annotations

from types import TracebackType

from gateway.errors import SameRequestInFlight


class RequestsInFlight:
    """The idempotency keys of the requests under way in this worker, by account.

    A key counts while its request is under way; answers are not kept, so a later request of the same key is a new one.
    """

    def __init__(self) -> None:
        self._held: set[tuple[str, bytes]] = set()

    def hold(self, account: str, headers: dict[bytes, bytes]) -> Hold:
        """Return a block in which the request's key is taken; entering raises `SameRequestInFlight` where it is."""
        key = headers.get(b"idempotency-key")
        return Hold(self._held, None if key is None else (account, key))


class Hold:
    """The block for one request; without a key it does nothing."""

    __slots__ = ("_held", "_key")

    def __init__(self, held: set[tuple[str, bytes]], key: tuple[str, bytes] | None) -> None:
        self._held = held
        self._key = key

    def __enter__(self) -> None:
        """Take the key."""
        if self._key is not None:
            if self._key in self._held:
                raise SameRequestInFlight
            self._held.add(self._key)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the key."""
        if self._key is not None:
            self._held.discard(self._key)
