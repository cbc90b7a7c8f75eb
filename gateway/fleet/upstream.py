"""What the relay needs of an answer, whoever gives it: a vLLM server over HTTP, or another provider through litellm."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import UpstreamTimeout

Consumer = Callable[[bytes], None]


@dataclass(slots=True)
class Deadline:
    """When to give up, in the event loop's seconds, and what has not happened by then."""

    at: float
    what: str
    seconds: float
    blames_backend: bool = False

    @classmethod
    def after(cls, seconds: float, what: str, *, blames_backend: bool = False) -> Deadline:
        """Give up `seconds` from now."""
        return cls(asyncio.get_running_loop().time() + seconds, what, seconds, blames_backend)

    def error(self) -> UpstreamTimeout:
        """Return the error that says what did not happen in time."""
        text = f"{self.what} within {round(self.seconds, 1):g} seconds."
        return UpstreamTimeout(text, blames_backend=self.blames_backend)


class UpstreamResponse(Protocol):
    """An answer whose status is known; the body is read whole, or goes to a consumer as it comes."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def retry_after(self) -> float | None:
        """Seconds after which it wants to be asked again, or None."""

    def expire(self, deadline: Deadline) -> None:
        """Fail with `UpstreamTimeout` at the deadline; a later call replaces an earlier one."""

    async def read(self) -> bytes:
        """Return the whole body."""

    async def consume(self, consumer: Consumer) -> None:
        """Hand every block to the consumer as it comes, until the body ends; what it raises is raised here.

        The consumer must not wait; it calls `pause` when it can't take more for now.
        """

    def pause(self) -> None:
        """Hand over nothing for now."""

    def resume(self) -> None:
        """Go on."""

    def close(self) -> None:
        """Let go of it; what was not read to its end is broken off."""
