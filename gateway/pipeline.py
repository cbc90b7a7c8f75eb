"""The whole path of a request, read from top to bottom: authenticate → admit → route → relay → record.

Steps do not know each other; each leaves what it found in the `Exchange`. Every way out is an answer in OpenAI's form
with a request id, and for a known key a record: success, refusal, a client that left, our own bug.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gateway.admission import Admission, check_enforcement, enforce
from gateway.authentication import ControlFollower, Identity, authenticate
from gateway.errors import (
    BadRequest,
    BodyTooSlow,
    ClientLeft,
    GatewayError,
    InternalError,
    NotRecorded,
    UnknownKey,
    counted_as,
)
from gateway.fleet.connection import UpstreamClient
from gateway.ledger.identifiers import now
from gateway.metrics import GatewayMetrics
from gateway.protocol.call import Call
from gateway.protocol.exchange import Exchange
from gateway.protocol.idempotency import RequestsInFlight
from gateway.protocol.listing import list_of_models, model_object
from gateway.protocol.requests import Endpoint, InferenceRequest, parse_request
from gateway.recording import Recorder
from gateway.routing import AUTO, Candidate, Catalogue, Models, Router, RouteRequest
from gateway.scopes import bound_output, check_endpoint
from gateway.settings import GatewaySettings
from gateway.streaming import Deadlines, Relay
from gateway.tracing import Tracer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """The collaborators of all requests; `catalogue` gives the models as the control state last had them."""

    settings: GatewaySettings
    secret: bytes
    control: ControlFollower
    catalogue: Callable[[], Catalogue]
    admission: Admission
    router: Router
    client: UpstreamClient
    recorder: Recorder
    metrics: GatewayMetrics
    in_flight: RequestsInFlight = field(default_factory=RequestsInFlight)

    async def handle(self, endpoint: Endpoint, call: Call) -> None:
        """Serve one request; raises nothing but cancellation."""
        exchange = new_exchange(endpoint, call)
        self.metrics.in_flight += 1
        try:
            await self._serve(exchange, call)
        except GatewayError as error:
            await self._refuse(exchange, call, error)
        except Exception:
            logger.exception("a request failed by our own fault", extra={"request_id": exchange.request_id})
            await self._refuse(exchange, call, InternalError(exchange.request_id))
        finally:
            if exchange.reservation is not None:
                exchange.reservation.settle(exchange.tokens, exchange.cost)
            self.metrics.in_flight -= 1

    async def list_models(self, call: Call, name: str | None = None) -> None:
        """Answer GET /v1/models, or /v1/models/NAME, with what the caller may name; this is no record."""
        exchange = new_exchange("messages" if b"anthropic-version" in call.head.headers else "chat.completions", call)
        try:
            found = self._identify(call)
            check_enforcement(found.state, found.account)
            answer = self._models(exchange.endpoint, name, found.account.operator, found.key.scope.models)
            call.answer(200, base_lines(exchange), json.dumps(answer).encode())
        except GatewayError as error:
            await self._refuse(exchange, call, error)

    def _models(self, endpoint: Endpoint, name: str | None, operator: bool, models: Models) -> dict[str, Any]:
        catalogue = self.catalogue()
        automatic = [AUTO] if catalogue.has_automatic(models) else []
        if name is not None:
            chosen = name if name in automatic else catalogue.named(name, operator, models).name
            return model_object(endpoint, chosen)
        visible = [candidate.name for candidate in catalogue.visible(operator, models)]
        return list_of_models(endpoint, [*automatic, *visible])

    async def _serve(self, exchange: Exchange, call: Call) -> None:
        call.head.check_form(self.settings.max_body_bytes)
        found = self._identify(call)
        state = found.state
        exchange.account, exchange.key = found.account, found.key
        check_endpoint(exchange.key.scope, exchange.endpoint)
        request = await self._read(exchange, call)
        action = check_enforcement(state, exchange.account)
        if action is not None:
            self.metrics.enforced.labels(action).inc()
            request = exchange.request = enforce(state, action, exchange, request)
        candidate = self._route(exchange, request, action == "divert")
        plan = self.admission.plan(exchange, state.limits)
        if plan is not None:
            request = exchange.request = await self.admission.reserve(exchange, request, plan)
        if action == "cap" and candidate.role == "teacher":
            tokens = state.enforcement[exchange.account.name].tokens_at(now()) or 0
            request = exchange.request = await self.admission.cap(exchange, request, tokens)
        with call.presence(), self.in_flight.hold(exchange.account.name, call.head.headers):
            queue = self.admission.queue_of(exchange)
            request = self.admission.with_priority(exchange, request)
            if queue is not None and not queue.enter_now():
                await self.admission.wait(exchange, request, queue)
            try:
                if exchange.dialect.recorded:
                    self.recorder.start(exchange)
                await self._relay(exchange, request, candidate, call).run()
            finally:
                if queue is not None:
                    queue.leave()

    def _identify(self, call: Call) -> Identity:
        """Return whose request it is; while the control plane is away, a key that is not known may be a new one."""
        try:
            return authenticate(call.head, self.secret, self.control.current())
        except UnknownKey:
            self.control.check_fresh()
            raise

    async def _read(self, exchange: Exchange, call: Call) -> InferenceRequest:
        raw = await call.body(self.settings.max_body_bytes, self.settings.body_timeout_s)
        exchange.timing.body_read = time.perf_counter()
        assert exchange.key is not None
        scope = exchange.key.scope
        request = bound_output(scope, parse_request(exchange.endpoint, raw, extensions=scope.extensions))
        # Only with the wish not to be logged understood may the content reach the record.
        exchange.preferences = call.head.preferences
        exchange.request = request
        if call.head.headers.get(b"x-stainless-retry-count", b"0") != b"0":
            self.metrics.retries.inc()
        return request

    def _route(self, exchange: Exchange, request: InferenceRequest, diverted: bool) -> Candidate:
        assert exchange.account is not None
        assert exchange.key is not None
        catalogue, models = self.catalogue(), exchange.key.scope.models
        if request.model == AUTO:
            if not exchange.dialect.automatic:
                raise BadRequest(f"'{AUTO}' is not offered here: name a model, always the same one.", param="model")
            wanted = RouteRequest(request, exchange.preferences, diverted)
            decision = self.router.choose(wanted, catalogue.automatic(models, diverted=diverted))
            exchange.route = decision.route
            return decision.candidate
        candidate = catalogue.named(request.model, exchange.account.operator, models)
        if diverted and candidate.role == "teacher" and exchange.account.divert_named and exchange.dialect.automatic:
            wanted = RouteRequest(request, exchange.preferences, diverted)
            decision = self.router.choose(wanted, catalogue.in_place_of(candidate))
            if decision.candidate is not candidate:
                exchange.route = decision.route
                return decision.candidate
        exchange.route = candidate.pinned
        return candidate

    def _relay(self, exchange: Exchange, request: InferenceRequest, candidate: Candidate, call: Call) -> Relay:
        deadlines, patience = self._deadlines, exchange.preferences.deadline_s
        if patience is not None and not request.stream:
            # The caller gives up then, and is answered a little before; a stream's bytes and pings renew its patience.
            total = min(deadlines.total_s, patience - min(1.0, patience / 10))
            deadlines = Deadlines(deadlines.ping_interval_s, deadlines.first_token_s, total)
        pool, synced = candidate.pool, self.recorder.synced
        return Relay(self.client, call, exchange, request, pool, self._settle, synced, success_lines, deadlines)

    @cached_property
    def _deadlines(self) -> Deadlines:
        settings = self.settings
        return Deadlines(settings.ping_interval_s, settings.first_token_timeout_s, settings.total_timeout_s)

    def _settle(self, exchange: Exchange, status: int, error: GatewayError | None) -> None:
        """Record how it ended, once, before the client has the last byte; `NotRecorded` when that fails and matters."""
        if exchange.recorded:
            return
        exchange.status = status
        exchange.error = (error.code or error.type) if error is not None else None
        if error is not None:
            self.metrics.refusals.labels(counted_as(exchange.error)).inc()
        if exchange.account is not None and exchange.dialect.recorded:
            self.recorder.final(exchange)  # what can't be recorded is settled by `handle`, by what its caller then got
        if exchange.reservation is not None:
            # Before the client has the last byte, so that its next request finds what this one did not use.
            exchange.reservation.settle(exchange.tokens, exchange.cost)
        exchange.recorded = True

    async def _refuse(self, exchange: Exchange, call: Call, error: GatewayError) -> None:
        try:
            self._settle(exchange, error.answer_status, error)
            if exchange.unsynced is not None and not isinstance(error, (ClientLeft, NotRecorded)):
                await self.recorder.synced(exchange)
        except NotRecorded:
            pass  # logged and counted where it was raised; the refusal stands as it is
        except Exception:
            logger.exception("a refusal could not be recorded", extra={"request_id": exchange.request_id})
        if not isinstance(error, ClientLeft):
            if isinstance(error, BodyTooSlow):
                # It never ends. Closing on any other client that still sends would reset the connection before it has
                # read why.
                call.keep_alive = False
            body = exchange.dialect.errors.body(error, exchange.request_id)
            call.answer(error.answer_status, failure_lines(exchange, error), body)


@dataclass(frozen=True)
class TracedPipeline(Pipeline):
    """The same with traces, so that a request pays nothing for them where they are off."""

    tracer: Tracer = field(kw_only=True)

    async def _serve(self, exchange: Exchange, call: Call) -> None:
        trace = self.tracer.begin(exchange)
        if trace is None:
            await super()._serve(exchange, call)
            return
        # Of the connection's head, which other requests share, a copy: backend and record get our place in the trace.
        exchange.head = exchange.head.with_traceparent(trace.outgoing)
        error: GatewayError | None = None
        try:
            await super()._serve(exchange, call)
        except GatewayError as refusal:
            error = refusal
            raise
        except Exception:
            error = InternalError(exchange.request_id)
            raise
        finally:
            self.tracer.end(exchange, trace, error, time.perf_counter())


def new_exchange(endpoint: Endpoint, call: Call) -> Exchange:
    """Begin the story of a request."""
    return Exchange(endpoint, call.head, call.peer)


def base_lines(exchange: Exchange) -> bytes:
    """Return the header lines that every answer carries."""
    request_id = exchange.request_id.encode()
    lines = b"".join([b"%b: %b\r\n" % (name, request_id) for name in exchange.dialect.id_headers])
    return b"%bopenai-processing-ms: %d\r\n%b" % (lines, exchange.timing.elapsed_ms(), exchange.answer_lines)


def success_lines(exchange: Exchange) -> bytes:
    """Return the header lines of an answer: who answered, why, what it took here, its price if it is whole."""
    timing, route = exchange.timing, exchange.route
    timing.begun = time.perf_counter()
    lines = b"%bx-spiritsafe-overhead-ms: %.3f\r\n" % (base_lines(exchange), timing.overhead_ms())
    if timing.queued_s is not None:
        lines += b"x-spiritsafe-queue-ms: %.3f\r\n" % (timing.queued_s * 1000)
    if route is not None:
        lines += route.lines
    if exchange.recorded:
        lines += b"x-spiritsafe-cost: %d\r\n" % exchange.cost
    return lines


def failure_lines(exchange: Exchange, error: GatewayError) -> bytes:
    """Return the header lines of an error."""
    return base_lines(exchange) + b"".join([b"%b: %b\r\n" % pair for pair in error.headers()])
