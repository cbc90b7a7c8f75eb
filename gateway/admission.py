"""May this request go on: enforcement first, then every limit that applies, then a place at the model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from gateway.errors import (
    BudgetStoreUnavailable,
    DeclarationNeeded,
    GatewayError,
    PermissionDenied,
    QuotaSpent,
    RateLimited,
)
from gateway.ledger.accounts import Account
from gateway.ledger.control import ControlState
from gateway.ledger.enforcement import Action
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.limits import Limits
from gateway.limits.bound import bound_of
from gateway.limits.leases import LeasedLimiter, LimitReached, Plan, StoreUnavailable
from gateway.limits.leases import Reservation as Held
from gateway.limits.meters import Kind
from gateway.limits.queue import FairQueue, Flow, Lane, QueueFull
from gateway.metrics import GatewayMetrics
from gateway.protocol.driving import apart
from gateway.protocol.exchange import Exchange, Reservation
from gateway.protocol.requests import InferenceRequest

SOON_S = 1.0  # when to come back for what requests under way hold
BATCH_PRIORITY = 10  # vLLM takes the lower number first; what it makes for others has 0
TEACHER_TOKENS = "teacher_tokens_day"  # what a cap bounds: output tokens of teachers in a day of the calendar, UTC
_RETRY_STORE_S = 2.0

_WORDS = {"rpm": "requests per minute", "tpm": "tokens per minute", "parallel": "requests at the same time"}
_BUDGETS = {"usd_day": "day", "usd_month": "month", TEACHER_TOKENS: "day"}


logger = logging.getLogger(__name__)


def check_enforcement(state: ControlState, account: Account) -> Action | None:
    """Return the step in force against an account at this moment, None without one.

    `PermissionDenied` when it is suspended, `DeclarationNeeded` when a declared use is asked for and due.
    """
    measure = state.enforcement.get(account.name)
    if measure is None:
        return None
    action = measure.at(now())
    if action == "suspend":
        raise PermissionDenied
    if action == "verify":
        raise DeclarationNeeded
    return action


def enforce(state: ControlState, action: Action, exchange: Exchange, request: InferenceRequest) -> InferenceRequest:
    """Return the request as it goes on under a step: without log-probabilities and further choices from `strip` on.

    Leaves the notice of a verification that is to come in the answer's headers.
    """
    assert exchange.account is not None
    measure = state.enforcement[exchange.account.name]
    if measure.action == "verify" and measure.begins is not None:
        exchange.answer_lines += b"x-spiritsafe-notice: declaration-needed; from=%b\r\n" % (
            to_rfc3339(measure.begins).encode()
        )
    changes = exchange.dialect.stripped(request.body) if action != "watch" else None
    if not changes:
        return request
    return dataclasses.replace(request, injected=(request.injected or {}) | changes)


class Capped:
    """What a capped account's request holds: its limits' part, where any binds, and that of the day's tokens."""

    def __init__(self, exchange: Exchange, limits: Reservation | None, cap: Held) -> None:
        self._exchange = exchange
        self._limits = limits
        self._cap = cap

    def settle(self, tokens: int, cost: int) -> None:
        """Spend what was used and give back the rest; a second time does nothing."""
        if self._limits is not None:
            self._limits.settle(tokens, cost)
        self._cap.settle(0, self._exchange.output_tokens)


@dataclass(frozen=True)
class Places:
    """The turns at the models that have a bound. `forward_priority`: tell vLLM which lane a request came by."""

    queues: dict[str, FairQueue]
    forward_priority: bool = False


@dataclass(frozen=True)
class Admission:
    """A worker's limits and queues. `context_length` gives a model's, in tokens; `places` those in force now."""

    limiter: LeasedLimiter
    metrics: GatewayMetrics
    context_length: Callable[[str], int]
    places: Callable[[], Places]

    def plan(self, exchange: Exchange, limits: Limits) -> Plan | None:
        """Return which of these limits bind this routed request, or None when none does.

        `BudgetStoreUnavailable` where there is no room to count.
        """
        assert exchange.account is not None
        assert exchange.key is not None
        assert exchange.route is not None
        try:
            return self.limiter.plan(limits, exchange.account.name, exchange.key.family, exchange.route.model)
        except StoreUnavailable as error:
            raise self._unavailable(error) from None

    async def reserve(self, exchange: Exchange, request: InferenceRequest, plan: Plan) -> InferenceRequest:
        """Reserve the request's bounds from every limit and leave the reservation and the headers in the exchange.

        Returns the request as the backend gets it, with a longest answer where a limit needs one. Raises `RateLimited`,
        `QuotaSpent`, `BudgetStoreUnavailable`, or `BadRequest` where the answer asked for is too long.
        """
        assert exchange.route is not None
        tokens = cost = 0
        if plan.bounded:
            bound = bound_of(request, self.context_length(exchange.route.model), plan.max_output)
            tokens, cost = bound.tokens, bound.cost(exchange.route.prices)
            if bound.inject:
                request = dataclasses.replace(request, injected=(request.injected or {}) | bound.inject)
        reservation = self.limiter.reserve(plan, tokens, cost)
        try:
            exchange.reservation = reservation or await self._acquire(plan, tokens, cost)
        except LimitReached as reached:
            self._refuse(reached)
        except StoreUnavailable as error:
            raise self._unavailable(error) from None
        finally:
            exchange.answer_lines += self._lines(plan)
        return request

    async def cap(self, exchange: Exchange, request: InferenceRequest, tokens_per_day: int) -> InferenceRequest:
        """Reserve the longest answer from the teacher's tokens that a capped account may have today.

        Returns the request as the backend gets it; raises as `reserve` does.
        """
        assert exchange.account is not None
        assert exchange.route is not None
        bound = bound_of(request, self.context_length(exchange.route.model), None)
        if bound.inject:
            request = dataclasses.replace(request, injected=(request.injected or {}) | bound.inject)
        try:
            plan = self.limiter.budget(exchange.account.name, TEACHER_TOKENS, tokens_per_day)
            held = self.limiter.reserve(plan, 0, bound.output) or await self._acquire(plan, 0, bound.output)
        except LimitReached as reached:
            self._refuse(reached)
        except StoreUnavailable as error:
            raise self._unavailable(error) from None
        exchange.reservation = Capped(exchange, exchange.reservation, held)
        return request

    async def _acquire(self, plan: Plan, tokens: int, cost: int) -> Held:
        return await apart(self.limiter.acquire(plan, tokens, cost), _give_back)

    def _unavailable(self, error: StoreUnavailable) -> BudgetStoreUnavailable:
        logger.debug("a limit could not be asked: %s", error)
        self.metrics.limit_refusals.labels("store").inc()
        text = "The service can't check budgets at the moment: try again shortly."
        return BudgetStoreUnavailable(text, retry_after=_RETRY_STORE_S)

    def _refuse(self, reached: LimitReached) -> NoReturn:
        self.metrics.limit_refusals.labels(reached.meter.quantity).inc()
        raise refusal_of(reached)

    def _lines(self, plan: Plan) -> bytes:
        requests = _rate_lines(b"requests", self.limiter.left(plan.requests))
        return requests + _rate_lines(b"tokens", self.limiter.left(plan.tokens)) if plan.tokens else requests

    def queue_of(self, exchange: Exchange) -> FairQueue | None:
        """Return the queue of the model that answers, or None where it has no bound."""
        assert exchange.route is not None
        queue = self.places().queues.get(exchange.route.model)
        if queue is not None:
            exchange.timing.queued_s = 0.0
        return queue

    async def wait(self, exchange: Exchange, request: InferenceRequest, queue: FairQueue) -> None:
        """Wait for a turn at a full model; `RateLimited` when there is none in time."""
        flow = self.flow_of(exchange, request)
        try:
            waited = await apart(queue.enter(flow, len(request.raw)), lambda _: queue.leave())
        except QueueFull as full:
            self.metrics.limit_refusals.labels("queue").inc()
            why = "There was no free place in time" if full.waited else "Too many requests are waiting"
            text = f"{why}. Please try again in {duration(full.retry_after_s)}."
            raise RateLimited(text, retry_after=full.retry_after_s) from None
        exchange.timing.queued_s = waited
        self.metrics.queue_time.series(flow.lane)(waited)

    def with_priority(self, exchange: Exchange, request: InferenceRequest) -> InferenceRequest:
        """Return the request with the priority of its lane, where vLLM is to hear of it; none jumps its own queue."""
        if not self.places().forward_priority:
            return request
        lane = self.flow_of(exchange, request).lane
        asked = request.body.get("priority")
        priority = max(asked if isinstance(asked, int) else 0, BATCH_PRIORITY if lane == "batch" else 0)
        return dataclasses.replace(request, injected=(request.injected or {}) | {"priority": priority})

    def flow_of(self, exchange: Exchange, request: InferenceRequest) -> Flow:
        """Return whose turn the request waits for: its own word, else its key's, else its account's."""
        assert exchange.account is not None
        assert exchange.key is not None
        limits = self.limiter.limits
        key, account = limits.get(("key", exchange.key.family)), limits.get(("account", exchange.account.name))
        chosen = (key.lane if key else None) or (account.lane if account else None)
        lane: Lane = "batch" if chosen == "batch" or request.body.get("service_tier") == "flex" else "interactive"
        return Flow(exchange.account.name, lane, (account.weight if account else None) or 1)


def _give_back(held: Held) -> None:
    held.settle(0, 0)


def refusal_of(reached: LimitReached) -> GatewayError:
    """Return the error for a limit that has too little left."""
    meter, whose = reached.meter, f"this {reached.meter.subject}"
    if meter.kind is Kind.BUDGET:
        period = _BUDGETS[meter.quantity]
        if reached.spent:
            text = f"You exceeded the budget of {whose} for the {period}: what is left does not cover this request."
            return QuotaSpent(text)
        text = f"Requests under way hold the rest of the budget of {whose} for the {period}. Please try again soon."
        return RateLimited(text, retry_after=SOON_S)
    words = f"Rate limit reached for {whose}: {meter.limit} {_WORDS[meter.quantity]}."
    if meter.kind is Kind.SLOTS:
        return RateLimited(f"{words} Please try again when one has ended.", retry_after=SOON_S)
    kind = "tokens" if meter.quantity == "tpm" else "requests"
    if reached.wait_s is None:
        text = f"Request too large for {whose}: it may need {reached.need} tokens of {meter.limit} per minute."
        return RateLimited(f"{text} Shorten it, or ask for a shorter answer.", kind=kind, retry_after=None)
    return RateLimited(
        f"{words} Please try again in {duration(reached.wait_s)}.", kind=kind, retry_after=reached.wait_s
    )


def _rate_lines(what: bytes, left: tuple[int, int, float] | None) -> bytes:
    """Return OpenAI's three headers for requests or tokens."""
    if left is None:
        return b""
    limit, remaining, reset_s = left
    return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n" % (
        what,
        limit,
        what,
        remaining,
        what,
        duration(reset_s).encode(),
    )


def duration(seconds: float) -> str:
    """Write seconds as OpenAI's headers do, such as `120ms`, `6.5s` or `1m0s`."""
    if seconds == 0.0:
        return "0ms"
    if seconds == float("inf"):
        return "24h0m0s"
    if seconds < 1.0:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
