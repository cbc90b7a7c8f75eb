"""The headers that a client may steer us with."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.errors import BadRequest

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_MOST_TAGS, _LONGEST_TAG = 16, 64


@dataclass(frozen=True)
class Preferences:
    """`quality_floor`: the gate's lower bound that a student must reach. `deadline_s`: when the caller gives up."""

    high_stakes: bool = False
    quality_floor: float | None = None
    no_log: bool = False
    tags: tuple[str, ...] = ()
    deadline_s: float | None = None


DEFAULT = Preferences()
_OURS = frozenset((b"x-spiritsafe-stakes", b"x-spiritsafe-quality-floor", b"x-spiritsafe-no-log", b"x-spiritsafe-tags"))


def inbound_request_id(headers: dict[bytes, bytes]) -> str | None:
    """Return the caller's `x-request-id` where it is a usable one."""
    value = headers.get(b"x-request-id")
    return value.decode() if value is not None and _REQUEST_ID.fullmatch(value) else None


def parse_preferences(headers: dict[bytes, bytes]) -> Preferences:
    """Read our own headers and the SDK's read time-out; `BadRequest` for a value that can't be meant."""
    patience = _seconds(headers.get(b"x-stainless-read-timeout"))
    if _OURS.isdisjoint(headers):
        return DEFAULT if patience is None else Preferences(deadline_s=patience)
    return Preferences(
        _stakes(headers.get(b"x-spiritsafe-stakes")),
        _floor(headers.get(b"x-spiritsafe-quality-floor")),
        no_log(headers),
        _tags(headers.get(b"x-spiritsafe-tags", b"")),
        patience,
    )


def _stakes(value: bytes | None) -> bool:
    # A misspelt "high" must not quietly get the cheaper model.
    if value is None or value in (b"normal", b"low"):
        return False
    if value != b"high":
        raise BadRequest('x-spiritsafe-stakes must be "high"; leave it out otherwise.', param="x-spiritsafe-stakes")
    return True


def _floor(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        floor = float(value)
    except ValueError:
        floor = -1.0
    if not 0.0 <= floor <= 1.0:
        text = "x-spiritsafe-quality-floor must be a number from 0 to 1."
        raise BadRequest(text, param="x-spiritsafe-quality-floor")
    return floor


def no_log(headers: dict[bytes, bytes]) -> bool:
    """Is content to be kept out of the record? Anything but an explicit no counts as a yes."""
    return headers.get(b"x-spiritsafe-no-log", b"false").lower() not in (b"false", b"0", b"")


def _tags(value: bytes) -> tuple[str, ...]:
    tags = [tag.strip() for tag in value.decode("latin-1").split(",") if tag.strip()]
    if len(tags) > _MOST_TAGS or any(len(tag) > _LONGEST_TAG for tag in tags):
        text = f"x-spiritsafe-tags takes at most {_MOST_TAGS} tags of at most {_LONGEST_TAG} characters."
        raise BadRequest(text, param="x-spiritsafe-tags")
    return tuple(tags)


def _seconds(value: bytes | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0.0 < seconds < float("inf") else None
