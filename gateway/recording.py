"""The traffic record: made of what the steps found, priced, and in the spool before the answer's last byte."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from gateway.errors import NotRecorded
from gateway.ledger.errors import SpoolUnavailable
from gateway.ledger.fingerprint import embedding, minhash
from gateway.ledger.identifiers import to_rfc3339
from gateway.ledger.spool import SpoolWriter
from gateway.ledger.traffic import text_of
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
        record = final_record(exchange, usage)
        record["client"] = self._client(exchange)
        if exchange.request is not None:
            kept = self._keep_text and not exchange.preferences.no_log
            record |= _of_request(exchange.request, kept)
            record |= _content(exchange, exchange.request) if kept else _fingerprint(exchange.request)
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
        most = request.max_output
        return made if most is None else min(made, most)

    def _client(self, exchange: Exchange) -> dict[str, Any]:
        agent = exchange.headers.get(b"user-agent")
        client = {
            "user_agent": agent.decode("latin-1") if agent is not None else None,
            "network": self._origin.network(exchange.peer, exchange.headers),
            "fingerprint": header_fingerprint(exchange.header_names),
        }
        return {name: value for name, value in client.items() if value is not None}

    def _observe(self, exchange: Exchange, usage: dict[str, Any]) -> None:
        """Count what was recorded, and learn the model's pace."""
        route, timing, metrics = exchange.route, exchange.timing, self._metrics
        model, reason = (route.model, route.reason) if route is not None else ("", "")
        status = f"{exchange.status // 100}xx"
        metrics.requests.labels(exchange.endpoint, model, status, reason).inc()
        metrics.duration.labels(exchange.endpoint, model, exchange.error or "").observe(timing.elapsed_ms() / 1000)
        metrics.overhead.observe(timing.overhead_ms() / 1000)
        if timing.first_content is not None:
            metrics.time_to_first_token.labels(exchange.endpoint, model).observe(timing.first_content - timing.received)
        for kind in ("input", "output"):
            if usage:
                metrics.tokens.labels(exchange.endpoint, model, kind).observe(usage[f"{kind}_tokens"])
        if usage.get("source") == "exact" and exchange.status == 200 and timing.forwarded is not None:
            pace = usage["output_tokens"] / max(1e-3, time.perf_counter() - timing.forwarded)
            self._pace[model] = 0.9 * self._pace.get(model, pace) + 0.1 * pace


def was_answered(exchange: Exchange) -> bool:
    """Did somebody answer, if only in part? That is billed; a failure before any content is not, whatever was sent."""
    if exchange.status == 200:
        return exchange.error is None or exchange.answer.content_chunks > 0
    return exchange.status == 499


def start_record(exchange: Exchange) -> dict[str, Any]:
    """Return the little that is known before a request is forwarded."""
    record = {
        "id": exchange.id,
        "time": to_rfc3339(exchange.time),
        "origin": "live",
        "account": exchange.account.name if exchange.account else None,
        "key": exchange.key.id if exchange.key else None,
        "endpoint": exchange.endpoint,
        "model_requested": exchange.request.model if exchange.request else None,
        "route": _route(exchange),
    }
    return {name: value for name, value in record.items() if value is not None}


def final_record(exchange: Exchange, usage: dict[str, Any]) -> dict[str, Any]:
    """Return the record but for content and client; fields without a value are absent."""
    request, route, timing = exchange.request, exchange.route, exchange.timing
    answered = route is not None and was_answered(exchange)
    record: dict[str, Any] = start_record(exchange) | {
        "model": route.model if route is not None and answered else (request.model if request else "unknown"),
        "model_role": route.role if route is not None and answered else None,
        "status": exchange.status,
        "error": exchange.error,
        "finish_reason": exchange.answer.finish_reason,
        "latency_ms": round(timing.elapsed_ms(), 3),
        "time_to_first_token_ms": _rounded(timing.time_to_first_token_ms()),
        "overhead_ms": round(timing.overhead_ms(), 3),
        "usage": usage or None,
        "cost": exchange.cost,
        "counterfactual_cost": _cost(usage, route.teacher_prices) if route is not None and usage and answered else 0,
        "tags": list(exchange.preferences.tags) or None,
        "extra": _extra(exchange),
    }
    return {name: value for name, value in record.items() if value is not None}


def _extra(exchange: Exchange) -> dict[str, str] | None:
    """What lets a caller find its request again: its own name for it, and its trace."""
    own = exchange.request_id if exchange.request_id != exchange.id else None
    found = {"request_id": own, "traceparent": traceparent(exchange.headers)}
    return {name: value for name, value in found.items() if value is not None} or None


def _content(exchange: Exchange, request: InferenceRequest) -> dict[str, Any]:
    name = request.dialect.text
    content = {name: request.subject[name], "fingerprint": {"skeleton": request.skeleton}}
    if exchange.answer.choices:
        content["response"] = exchange.answer.response()
    return content


def _fingerprint(request: InferenceRequest) -> dict[str, Any]:
    """Make now what is made of text later, for a text that goes no further."""
    text = text_of(request.subject)
    made = {"minhash": minhash(text).tolist(), "embedding": embedding(text).tolist()}
    return {"fingerprint": {"skeleton": request.skeleton} | made}


def _of_request(request: InferenceRequest, with_text: bool) -> dict[str, Any]:
    body = request.subject
    user, messages = body.get("user"), body.get("messages")
    roles = [message.get("role") for message in messages] if isinstance(messages, list) else ["user"]
    found = {
        "user": user if isinstance(user, str) else None,
        "tools": tool_names(body) or None,
        "parameters": request.parameters(with_text=with_text),
        "turns": roles.count("user"),
        "store": request.store,
        "metadata": body.get("metadata"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _route(exchange: Exchange) -> dict[str, Any] | None:
    route = exchange.route
    if route is None:
        return None
    found = {"reason": route.reason, "task": route.task, "adequacy": route.adequacy}
    return {name: value for name, value in found.items() if value is not None}


def _cost(usage: dict[str, Any], prices: tuple[int, int]) -> int:
    """Return integer nano-dollars."""
    return int(usage["input_tokens"]) * prices[0] + int(usage["output_tokens"]) * prices[1]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
