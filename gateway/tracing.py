"""OpenTelemetry traces: the steps of a request as spans of its caller's trace, sampled, without content.

Names are those of the semantic conventions for generative AI. A worker's thread sends spans by OTLP/HTTP as JSON, once
a second; what a collector does not take is dropped and counted, and no request waits for it.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import threading
import urllib.request
from collections import deque
from dataclasses import dataclass
from typing import Any

from gateway.errors import GatewayError
from gateway.metrics import OPERATIONS, GatewayMetrics
from gateway.protocol.exchange import Exchange
from gateway.settings import TracingSettings

INTERVAL_S = 1.0
TIMEOUT_S = 5.0
MOST_WAITING = 10_000  # traces; what comes when so many wait is dropped
MOST_AT_ONCE = 500
SERVER, CLIENT, INTERNAL = 2, 3, 1  # OTLP's kinds of span
FAILED = 2  # OTLP's status code of an error

logger = logging.getLogger(__name__)

Span = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """A request's place in a trace, ids in hexadecimal: its own span, that of asking the backend, its caller's."""

    trace_id: str
    span_id: str
    upstream_id: str
    parent_id: str

    @property
    def outgoing(self) -> bytes:
        """The `traceparent` that the backend gets (W3C Trace Context)."""
        return f"00-{self.trace_id}-{self.upstream_id}-01".encode()


class Tracer:
    """Begins and ends the traces of a worker; `start` and `stop` its thread. `process` names the worker."""

    def __init__(self, settings: TracingSettings, metrics: GatewayMetrics, process: str) -> None:
        self._url = f"{settings.endpoint.rstrip('/')}/v1/traces"
        self._bound = int(settings.sample * 2**32)
        self._dropped = metrics.trace_drops
        self._waiting: deque[list[Span]] = deque()
        self._resource = {"attributes": _attributes({"service.name": "spiritsafe", "service.instance.id": process})}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send_periodically, name="traces", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send what waits, and end."""
        self._stopping.set()
        self._thread.join(2 * TIMEOUT_S)

    def begin(self, exchange: Exchange) -> Trace | None:
        """Take up the caller's trace and its word on sampling, or begin one and draw; None: it is not sampled."""
        parent = exchange.head.traceparent
        if parent is None:
            sampled, trace_id, parent_id = int(exchange.id[-8:], 16) < self._bound, exchange.id.replace("-", ""), ""
        else:
            _, trace_id, parent_id, flags = parent.decode().split("-")[:4]
            sampled = bool(int(flags, 16) & 1)
        return Trace(trace_id, os.urandom(8).hex(), os.urandom(8).hex(), parent_id) if sampled else None

    def end(self, exchange: Exchange, trace: Trace, error: GatewayError | None, ended: float) -> None:
        """Keep the spans of a request that has ended (`time.perf_counter()`), by an error or with what it sent."""
        if len(self._waiting) >= MOST_WAITING:
            self._dropped.count += 1
            return
        status, code = exchange.status, exchange.error
        if error is not None:
            status, code = error.answer_status, error.code or error.type
        self._waiting.append(_spans(exchange, trace, status, code, ended))

    def _send_periodically(self) -> None:
        stopping, failing = False, False
        while not stopping:
            stopping = self._stopping.wait(INTERVAL_S)
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
                try:
                    self._send([span for spans in batch for span in spans])
                    failing = False
                except (OSError, http.client.HTTPException) as error:  # a collector that speaks something else, too
                    self._dropped.count += len(batch)
                    if not failing:
                        logger.warning("traces are dropped: %s: %s; see tracing.endpoint", self._url, error)
                    failing = True
                    break

    def _send(self, spans: list[Span]) -> None:
        scoped = {"scope": {"name": "spiritsafe.gateway"}, "spans": spans}
        document = {"resourceSpans": [{"resource": self._resource, "scopeSpans": [scoped]}]}
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._url, json.dumps(document).encode(), headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read()


def _spans(exchange: Exchange, trace: Trace, status: int, error: str | None, ended: float) -> list[Span]:
    timing = exchange.timing
    operation = OPERATIONS.get(exchange.endpoint, "chat")
    model = exchange.route.model if exchange.route is not None else ""
    name = f"{operation} {model}".rstrip()
    whole = _span(exchange, trace, name, SERVER, timing.received, ended)
    whole |= {
        "spanId": trace.span_id,
        "parentSpanId": trace.parent_id,
        "attributes": _attributes(_facts(exchange, status, error)),
    }
    if error is not None:
        whole["status"] = {"code": FAILED, "message": error}
    if timing.first_content is not None:
        moment = str(_nanoseconds(exchange, timing.first_content))
        whole["events"] = [{"name": "first_token", "timeUnixNano": moment}]
    read = timing.body_read or timing.forwarded or ended
    out = timing.forwarded or ended
    queued = out - (timing.queued_s or 0.0)
    found = [whole, _span(exchange, trace, "receive", INTERNAL, timing.received, read)]
    if timing.body_read is not None:
        found.append(_span(exchange, trace, "route", INTERNAL, read, queued))
    if timing.queued_s:
        found.append(_span(exchange, trace, "queue", INTERNAL, queued, out))
    if timing.forwarded is not None:
        asked = _span(exchange, trace, name, CLIENT, out, ended)
        found.append(asked | {"spanId": trace.upstream_id})
    return found


def _span(exchange: Exchange, trace: Trace, name: str, kind: int, began: float, ended: float) -> Span:
    return {
        "traceId": trace.trace_id,
        "spanId": os.urandom(8).hex(),
        "parentSpanId": trace.span_id,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(_nanoseconds(exchange, began)),
        "endTimeUnixNano": str(_nanoseconds(exchange, max(began, ended))),
    }


def _nanoseconds(exchange: Exchange, moment: float) -> int:
    return exchange.time_ns + round((moment - exchange.timing.received) * 1e9)


def _facts(exchange: Exchange, status: int, error: str | None) -> dict[str, str | int | list[str]]:
    """What a span says of a request: no text of it, no account, no user."""
    facts: dict[str, str | int | list[str]] = {
        "gen_ai.operation.name": OPERATIONS.get(exchange.endpoint, "chat"),
        "gen_ai.provider.name": "spiritsafe",
        "http.response.status_code": status,
        "spiritsafe.endpoint": exchange.endpoint,
        "spiritsafe.request.id": exchange.request_id,
    }
    if exchange.route is not None:
        facts["gen_ai.response.model"] = exchange.route.model
        facts["spiritsafe.route.reason"] = exchange.route.reason
        # A model's name that was found is one of ours; what else a caller writes there may be anything.
        facts["gen_ai.request.model"] = exchange.request.model if exchange.request is not None else ""
    usage = exchange.answer.usage
    if usage is not None:
        facts["gen_ai.usage.input_tokens"] = usage["input_tokens"]
        facts["gen_ai.usage.output_tokens"] = usage["output_tokens"]
    if exchange.answer.finish_reason is not None:
        facts["gen_ai.response.finish_reasons"] = [exchange.answer.finish_reason]
    if error is not None:
        facts["error.type"] = error
    return facts


def _attributes(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in facts.items()]


def _value(value: str | int | list[str]) -> dict[str, Any]:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}
