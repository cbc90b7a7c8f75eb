"""Backends: one vLLM URL each, with the work it has open and whether it is up; pools: the backends of one model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gateway.errors import GatewayError, NoBackend, UpstreamDisconnected, UpstreamUnreachable

FAILURES_UNTIL_DOWN = 3  # one broken connection is no dead server; a refused one is
MOST_ATTEMPTS = 3


@dataclass(eq=False)
class Backend:
    """One vLLM server. It counts as up until shown otherwise, and as up again when its `/health` says so."""

    url: str
    inflight: int = 0
    up: bool = True
    failures: int = 0

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """Count one request as open inside the block, and learn from how it ends."""
        self.inflight += 1
        try:
            yield
        except GatewayError as error:
            # A server that answers, if only with an error, is there; one bad request must not take it from the others.
            if isinstance(error, (UpstreamUnreachable, UpstreamDisconnected)):
                self.failed(unreachable=isinstance(error, UpstreamUnreachable))
            else:
                self.failures = 0
            raise
        else:
            self.succeeded()
        finally:
            self.inflight -= 1

    def failed(self, *, unreachable: bool) -> None:
        """Note a failure: no connection takes it down at once, anything else after several in a row."""
        self.failures += 1
        if unreachable or self.failures >= FAILURES_UNTIL_DOWN:
            self.up = False

    def succeeded(self) -> None:
        """Note that it works."""
        self.failures = 0
        self.up = True


@dataclass(frozen=True)
class Pool:
    """The backends that serve one model under `served_name`."""

    served_name: str
    backends: tuple[Backend, ...]

    @property
    def ready(self) -> bool:
        """Is any backend up?"""
        return any(backend.up for backend in self.backends)

    def attempts(self) -> Iterator[Backend]:
        """Yield the backends to try, the one with the least open work first.

        A sole backend comes twice: the first failure may have been a connection that was just closing.
        Raises `NoBackend` when none is up.
        """
        if not self.ready:
            raise NoBackend(f"No server of the model '{self.served_name}' is up: try again shortly.")
        tried: set[str] = set()
        for _ in range(min(MOST_ATTEMPTS, max(2, len(self.backends)))):
            chosen = least_busy(self.backends, tried)
            if chosen is None:
                return
            tried.add(chosen.url)
            yield chosen


def least_busy(backends: Sequence[Backend], tried: set[str]) -> Backend | None:
    """Return the backend that is up with the least open work, one not yet tried where there is one."""
    up = [backend for backend in backends if backend.up]
    fresh = [backend for backend in up if backend.url not in tried] or up
    return min(fresh, key=lambda backend: backend.inflight, default=None)


@dataclass
class Fleet:
    """All backends by URL, so that models that share a server share what is known of it."""

    backends: dict[str, Backend] = field(default_factory=dict)

    def pool(self, served_name: str, urls: Iterable[str]) -> Pool:
        """Return the pool of a model, with the backends known already or new ones."""
        return Pool(served_name, tuple(self.backends.setdefault(url, Backend(url)) for url in map(_trimmed, urls)))

    def keep(self, urls: Iterable[str]) -> None:
        """Forget the backends that no model uses any more."""
        used = set(map(_trimmed, urls))
        self.backends = {url: backend for url, backend in self.backends.items() if url in used}


def _trimmed(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1")
