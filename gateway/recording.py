"""Recording: every request is priced, and in the spool (if settings say so, on the disk) before its answer ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from gateway.errors import NotRecorded, counted_as
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.spool import OnSynced, SpoolWriter
from gateway.metrics import OPERATIONS, GatewayMetrics
from gateway.protocol.exchange import Exchange
from gateway.protocol.origin import ClientOrigin
from gateway.records import client_of, cost_of, final_record, start_record, was_answered

REOPEN_S = 0.2  # soon: the ingester holds the slot of a dead worker for a moment, to say so
BYTES_PER_TOKEN = 4  # of a prompt, where nothing better is known

logger = logging.getLogger(__name__)


class Recorder:
    """Writes start and final records. `serve_unrecorded`: what to do when the spool takes none (else `NotRecorded`).

    With `strict` a record that was written is not yet kept: `synced` waits until it is, which answers must do.
    """

    def __init__(
        self,
        open_spool: Callable[[], SpoolWriter],
        metrics: GatewayMetrics,
        origin: ClientOrigin,
        *,
        keep_text: bool,
        serve_unrecorded: bool,
        strict: bool = False,
    ) -> None:
        self._open_spool = open_spool
        self._metrics = metrics
        self._origin = origin
        self._keep_text = keep_text
        self._serve_unrecorded = serve_unrecorded
        self._strict = strict
        self._spool: SpoolWriter | None = None
        self._reopen_at = 0.0
        self._failing = False
        self._pace: dict[str, float] = {}
        self._series: dict[tuple[str, str, int, str, str], _Series] = {}

    def open(self) -> None:
        """Open the spool where it is not open; `NotRecorded` when it would take no record and that matters."""
        try:
            self._opened().check()
        except SpoolUnavailable as error:
            self._unrecorded(error)

    def start(self, exchange: Exchange) -> None:
        """Write that a request is about to be forwarded, so that it shows as interrupted if this process dies."""
        try:
            self._opened().start(start_record(exchange))
        except SpoolUnavailable as error:
            self._unrecorded(error)
        else:
            self._failing = False

    def final(self, exchange: Exchange) -> None:
        """Price the request and write its record; returns when it is in the file.

        With `strict` its way to the disk is in `exchange.unsynced`.
        """
        usage = self._usage(exchange)
        route = exchange.route
        if route is not None and usage and was_answered(exchange):
            exchange.cost = cost_of(usage, route.prices)
            exchange.output_tokens = usage["output_tokens"]
            exchange.tokens = usage["input_tokens"] + exchange.output_tokens
        else:
            # It may have been answered, and could not be recorded so: what its caller then gets costs nothing.
            exchange.cost = exchange.tokens = exchange.output_tokens = 0
        account = exchange.account
        kept = self._keep_text and not exchange.preferences.no_log and (account is None or account.keep_text)
        client = client_of(exchange.head, self._origin.network(exchange.peer, exchange.head.headers))
        record = final_record(exchange, usage, client, keep_text=kept)
        self._write_final(exchange, record)
        self._observe(exchange, usage, record)

    async def synced(self, exchange: Exchange) -> None:
        """Wait until a record that was written is on the disk; `NotRecorded` when that fails and matters."""
        if exchange.unsynced is not None:
            error = await exchange.unsynced
            if error is not None:
                self._unrecorded(error)

    @property
    def sync_failures(self) -> int:
        """How often the spool could not be synced."""
        return 0 if self._spool is None else self._spool.sync_failures

    def close(self) -> None:
        """Close the spool."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _write_final(self, exchange: Exchange, record: dict[str, Any]) -> None:
        try:
            if self._strict:
                future, on_synced = _promise()
                self._opened().final(record, on_synced)
                exchange.unsynced = future
            else:
                self._opened().final(record)
        except SpoolUnavailable as error:
            self._unrecorded(error)
        else:
            self._failing = False

    def _opened(self) -> SpoolWriter:
        if self._spool is None:
            if time.monotonic() < self._reopen_at:
                raise SpoolUnavailable("the spool could not be opened a moment ago")
            self._reopen_at = time.monotonic() + REOPEN_S
            self._spool = self._open_spool()
        return self._spool

    def _unrecorded(self, error: SpoolUnavailable) -> None:
        if not self._failing:
            logger.error("the spool takes no records: %s", error)
        self._failing = True
        self._metrics.unrecorded.labels("serve" if self._serve_unrecorded else "refuse").inc()
        if not self._serve_unrecorded:  # fail closed, unless gateway.on_spool_failure = "serve"
            raise NotRecorded("The service can't record requests at the moment: try again shortly.") from error

    def _usage(self, exchange: Exchange) -> dict[str, Any]:
        answer = exchange.answer
        exact = answer.usage
        if exact is not None:
            return exact
        if exchange.timing.forwarded is None or exchange.request is None or not was_answered(exchange):
            return {}
        prompt = len(exchange.request.raw) // BYTES_PER_TOKEN if answer.prompt_tokens is None else answer.prompt_tokens
        if answer.content_chunks or exchange.status == 200:
            return {"input_tokens": prompt, "output_tokens": answer.content_chunks, "source": "counted"}
        return {"input_tokens": prompt, "output_tokens": self._estimated_output(exchange), "source": "estimated"}

    def _estimated_output(self, exchange: Exchange) -> int:
        """What a backend made, at its usual pace, of an answer that was not streamed until its client left."""
        request, timing = exchange.request, exchange.timing
        if request is None or request.stream or exchange.route is None or timing.forwarded is None:
            return 0
        made = int(self._pace.get(exchange.route.model, 0.0) * (time.perf_counter() - timing.forwarded))
        most = request.maximum_output
        return made if most is None else min(made, most)

    def _observe(self, exchange: Exchange, usage: dict[str, Any], record: dict[str, Any]) -> None:
        """Count what was recorded, and learn the model's pace."""
        route, timing = exchange.route, exchange.timing
        model, reason = (route.model, route.reason) if route is not None else ("", "")
        error = "" if exchange.error is None else counted_as(exchange.error)
        label = (exchange.endpoint, model, exchange.status // 100, reason, error)
        series = self._series.get(label)
        if series is None:
            series = self._series[label] = _Series(self._metrics, *label)
        series.requests.count += 1
        series.duration(record["latency_ms"] / 1000)
        self._metrics.overhead(record["overhead_ms"] / 1000)
        if timing.first_content is not None:
            series.time_to_first_token(timing.first_content - timing.received)
        if usage:
            series.input(usage["input_tokens"])
            series.output(usage["output_tokens"])
            if usage["source"] == "exact" and exchange.status == 200 and timing.forwarded is not None:
                pace = usage["output_tokens"] / max(1e-3, time.perf_counter() - timing.forwarded)
                self._pace[model] = 0.9 * self._pace.get(model, pace) + 0.1 * pace


def _promise() -> tuple[asyncio.Future[SpoolUnavailable | None], OnSynced]:
    """Return something to await, and what concludes it from another thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[SpoolUnavailable | None] = loop.create_future()

    def conclude(error: SpoolUnavailable | None) -> None:
        loop.call_soon_threadsafe(_conclude, future, error)

    return future, conclude


def _conclude(future: asyncio.Future[SpoolUnavailable | None], error: SpoolUnavailable | None) -> None:
    if not future.done():
        future.set_result(error)


class _Series:
    """The metrics of requests that went alike."""

    __slots__ = ("duration", "input", "output", "requests", "time_to_first_token")

    def __init__(
        self, metrics: GatewayMetrics, endpoint: str, model: str, status: int, reason: str, error: str
    ) -> None:
        operation = OPERATIONS.get(endpoint, "chat")
        self.requests = metrics.requests.tally(endpoint, model, f"{status}xx", reason)
        self.duration = metrics.duration.series(operation, model, error)
        self.time_to_first_token = metrics.time_to_first_token.series(operation, model)
        self.input = metrics.tokens.series(operation, model, "input")
        self.output = metrics.tokens.series(operation, model, "output")
