"""The head of a request, and what is worked out of it once: a client sends the same one again and again."""

from __future__ import annotations

import re
from copy import copy
from functools import cached_property

from gateway.errors import BodyTooLarge, UnsupportedMediaType
from gateway.protocol.origin import header_fingerprint
from gateway.protocol.preferences import Preferences, inbound_request_id, parse_preferences

# W3C Trace Context, version 00 and later ones, which may append fields.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{1,64})?")


class Head:
    """`headers` by lower-case name (of a repeated one the last), and their `names` in order.

    `identity` is authentication's: whose head it was found to be, and by which control state.
    """

    def __init__(self, path: bytes, pairs: list[tuple[bytes, bytes]]) -> None:
        self.path = path
        self.headers = dict(pairs)
        self.names = tuple([name for name, _ in pairs])
        self.identity: object = None

    @cached_property
    def preferences(self) -> Preferences:
        """What the client wishes by headers; `BadRequest` for a value that can't be meant."""
        return parse_preferences(self.headers)

    @cached_property
    def request_id(self) -> str | None:
        """The client's own name for its request, where it is a usable one."""
        return inbound_request_id(self.headers)

    @cached_property
    def traceparent(self) -> bytes | None:
        """The client's `traceparent`, where it is a usable one."""
        value = self.headers.get(b"traceparent")
        return value if value is not None and _TRACEPARENT.fullmatch(value) else None

    def with_traceparent(self, value: bytes) -> Head:
        """Return a copy that has that `traceparent`; what was worked out of the head stays with it."""
        found = copy(self)
        found.traceparent = value
        return found

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the order of the headers, in which libraries differ."""
        return header_fingerprint(self.names)

    @cached_property
    def is_json(self) -> bool:
        """Does it announce a body of plain JSON? `UnsupportedMediaType` says what else it announces."""
        media_type = self.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != b"application/json":
            raise UnsupportedMediaType("The body must be JSON: send it with Content-Type: application/json.")
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise UnsupportedMediaType("The body must not be compressed: leave out Content-Encoding.")
        return True

    def check_form(self, limit: int) -> None:
        """Refuse by the head alone what can't be JSON or is too long: `UnsupportedMediaType`, `BodyTooLarge`."""
        if self.is_json:
            length = self.headers.get(b"content-length", b"0")
            if length.isdigit() and int(length) > limit:
                raise too_large(limit)


def too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of a body over the limit."""
    return BodyTooLarge(f"The body is larger than {limit} bytes: shorten the request.")
