"""What the relay needs of an answer, whoever gives it: a vLLM server over HTTP, or another provider through litellm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class UpstreamResponse(Protocol):
    """An answer whose status is known and whose body is read as it comes."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def retry_after(self) -> float | None:
        """Seconds after which it wants to be asked again, or None."""

    def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body in pieces as they come."""

    async def read(self) -> bytes:
        """Return the whole body."""

    def close(self) -> None:
        """Let go of it; what was not read to its end is broken off."""
