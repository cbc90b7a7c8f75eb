"""The traffic record: made of what the steps found, priced, and in the spool before the answer's last byte."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gateway.errors import NotRecorded
from gateway.ledger.content import text_of
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.fingerprint import embedding, minhash
from gateway.ledger.identifiers import rfc3339_of
from gateway.ledger.spool import SpoolWriter
from gateway.metrics import GatewayMetrics
from gateway.protocol.exchange import Exchange
from gateway.protocol.origin import ClientOrigin, header_fingerprint
from gateway.protocol.passing import traceparent
from gateway.protocol.requests import InferenceRequest, tool_names

REOPEN_S = 1.0
BYTES_PER_TOKEN = 4  # of a prompt, where nothing better is known

logger = logging.getLogger(__name__)


class Recorder:
    """Writes start and final records. `serve_unrecorded`: what to do when the spool takes none (else `NotRecorded`)."""

    def __init__(
        self,
        open_spool: Callable[[], SpoolWriter],
        metrics: GatewayMetrics,
        origin: ClientOrigin,
        *,
        keep_text: bool,
        serve_unrecorded: bool,
    ) -> None:
        self._open_spool = open_spool
        self._metrics = metrics
        self._origin = origin
        self._keep_text = keep_text
        self._serve_unrecorded = serve_unrecorded
        self._spool: SpoolWriter | None = None
        self._reopen_at = 0.0
        self._failing = False
        self._pace: dict[str, float] = {}
        self._series: dict[tuple[str, str, int, str, str], _Series] = {}

    def open(self) -> None:
        """Open the spool where it is not open; `NotRecorded` when that fails and matters."""
        self._write(lambda spool: None)

    def start(self, exchange: Exchange) -> None:
        """Write that a request is about to be forwarded, so that it shows as interrupted if this process dies."""
        self._write(lambda spool: spool.start(start_record(exchange)))

    def final(self, exchange: Exchange) -> None:
        """Price the request and write its record; returns when it is in the file."""
        usage = self._usage(exchange)
        route = exchange.route
        if route is not None and usage and was_answered(exchange):
            exchange.cost = _cost(usage, route.prices)
            exchange.tokens = usage["input_tokens"] + usage["output_tokens"]
        record = final_record(exchange, usage)
        record["client"] = self._client(exchange)
        if exchange.request is not None:
            kept = self._keep_text and not exchange.preferences.no_log
            _add_request(record, exchange.request, kept)
            if kept:
                _add_content(record, exchange, exchange.request)
            else:
                record["fingerprint"] = _fingerprint(exchange.request)
        self._write(lambda spool: spool.final(record))
        self._observe(exchange, usage)

    def close(self) -> None:
        """Close the spool."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def _write(self, write: Callable[[SpoolWriter], object]) -> None:
        try:
            write(self._opened())
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

    def _client(self, exchange: Exchange) -> dict[str, Any]:
        headers = exchange.headers
        client: dict[str, Any] = {"fingerprint": header_fingerprint(exchange.header_names)}
        agent = headers.get(b"user-agent")
        if agent is not None:
            client["user_agent"] = agent.decode("latin-1")
        network = self._origin.network(exchange.peer, headers)
        if network is not None:
            client["network"] = network
        return client

    def _observe(self, exchange: Exchange, usage: dict[str, Any]) -> None:
        """Count what was recorded, and learn the model's pace."""
        route, timing = exchange.route, exchange.timing
        model, reason = (route.model, route.reason) if route is not None else ("", "")
        label = (exchange.endpoint, model, exchange.status // 100, reason, exchange.error or "")
        series = self._series.get(label)
        if series is None:
            series = self._series[label] = _Series(self._metrics, *label)
        series.requests.inc()
        series.duration(timing.elapsed_ms() / 1000)
        self._metrics.overhead(timing.overhead_ms() / 1000)
        if timing.first_content is not None:
            series.time_to_first_token(timing.first_content - timing.received)
        if usage:
            series.input(usage["input_tokens"])
            series.output(usage["output_tokens"])
            if usage["source"] == "exact" and exchange.status == 200 and timing.forwarded is not None:
                pace = usage["output_tokens"] / max(1e-3, time.perf_counter() - timing.forwarded)
                self._pace[model] = 0.9 * self._pace.get(model, pace) + 0.1 * pace


class _Series:
    """The metrics of requests that went alike."""

    __slots__ = ("duration", "input", "output", "requests", "time_to_first_token")

    def __init__(
        self, metrics: GatewayMetrics, endpoint: str, model: str, status: int, reason: str, error: str
    ) -> None:
        self.requests = metrics.requests.labels(endpoint, model, f"{status}xx", reason)
        self.duration = metrics.duration.series(endpoint, model, error)
        self.time_to_first_token = metrics.time_to_first_token.series(endpoint, model)
        self.input = metrics.tokens.series(endpoint, model, "input")
        self.output = metrics.tokens.series(endpoint, model, "output")


def was_answered(exchange: Exchange) -> bool:
    """Did somebody answer, if only in part? That is billed; a failure before any content is not, whatever was sent."""
    if exchange.status == 200:
        return exchange.error is None or exchange.answer.content_chunks > 0
    return exchange.status == 499


def start_record(exchange: Exchange) -> dict[str, Any]:
    """Return the little that is known before a request is forwarded; fields without a value are absent."""
    record: dict[str, Any] = {
        "id": exchange.id,
        "time": rfc3339_of(exchange.time_ns),
        "origin": "live",
        "endpoint": exchange.endpoint,
    }
    if exchange.account is not None:
        record["account"] = exchange.account.name
    if exchange.key is not None:
        record["key"] = exchange.key.id
    if exchange.request is not None:
        record["model_requested"] = exchange.request.model
    route = exchange.route
    if route is not None:
        decision = record["route"] = {"reason": route.reason}
        if route.task is not None:
            decision["task"] = route.task
        if route.adequacy is not None:
            decision["adequacy"] = route.adequacy
    return record


def final_record(exchange: Exchange, usage: dict[str, Any]) -> dict[str, Any]:
    """Return the record but for content and client; fields without a value are absent."""
    request, route, timing = exchange.request, exchange.route, exchange.timing
    record = start_record(exchange)
    if route is not None and was_answered(exchange):
        record["model"] = route.model
        record["model_role"] = route.role
        record["counterfactual_cost"] = _cost(usage, route.teacher_prices) if usage else 0
    else:
        record["model"] = request.model if request is not None else "unknown"
        record["counterfactual_cost"] = 0
    record["status"] = exchange.status
    record["cost"] = exchange.cost
    record["latency_ms"] = round(timing.elapsed_ms(), 3)
    record["overhead_ms"] = round(timing.overhead_ms(), 3)
    first_token = timing.time_to_first_token_ms()
    if first_token is not None:
        record["time_to_first_token_ms"] = round(first_token, 3)
    if timing.queued_s:
        record["queue_ms"] = round(timing.queued_s * 1000, 3)
    if exchange.error is not None:
        record["error"] = exchange.error
    if exchange.answer.finish_reason is not None:
        record["finish_reason"] = exchange.answer.finish_reason
    if usage:
        record["usage"] = usage
    if exchange.preferences.tags:
        record["tags"] = list(exchange.preferences.tags)
    extra = _extra(exchange)
    if extra:
        record["extra"] = extra
    return record


def _extra(exchange: Exchange) -> dict[str, str]:
    """What lets a caller find its request again: its own name for it, and its trace."""
    found = {}
    if exchange.request_id != exchange.id:
        found["request_id"] = exchange.request_id
    trace = traceparent(exchange.headers)
    if trace is not None:
        found["traceparent"] = trace
    return found


def _add_request(record: dict[str, Any], request: InferenceRequest, with_text: bool) -> None:
    body = request.subject
    user, messages = body.get("user"), body.get("messages")
    record["parameters"] = request.parameters(with_text=with_text)
    record["store"] = request.store
    roles = [message.get("role") for message in messages] if isinstance(messages, list) else ["user"]
    record["turns"] = roles.count("user")
    if isinstance(user, str):
        record["user"] = user
    tools = tool_names(body) if "tools" in body else []
    if tools:
        record["tools"] = tools
    if body.get("metadata") is not None:
        record["metadata"] = body["metadata"]


def _add_content(record: dict[str, Any], exchange: Exchange, request: InferenceRequest) -> None:
    name = request.dialect.text
    record[name] = request.subject[name]
    skeleton = request.known_skeleton
    if skeleton is not None:
        record["fingerprint"] = {"skeleton": skeleton}
    if exchange.answer.choices:
        record["response"] = exchange.answer.response()


def _fingerprint(request: InferenceRequest) -> dict[str, Any]:
    """Make now what is made of text later, for a text that goes no further."""
    text = text_of(request.subject)
    made = {"minhash": minhash(text).tolist(), "embedding": embedding(text).tolist()}
    return {"skeleton": request.skeleton} | made


def _cost(usage: dict[str, Any], prices: tuple[int, int]) -> int:
    """Return integer nano-dollars."""
    return int(usage["input_tokens"]) * prices[0] + int(usage["output_tokens"]) * prices[1]
