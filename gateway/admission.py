"""May this request go on: enforcement first, then the key's requests per minute."""

from __future__ import annotations

from gateway.errors import PermissionDenied, RateLimited
from gateway.ledger.accounts import Account
from gateway.ledger.control import ControlState
from gateway.ledger.enforcement import Enforcement
from gateway.ledger.identifiers import now
from gateway.ledger.keys import Key
from gateway.limits.bucket import Allowance, RequestLimiter
from gateway.protocol.call import HeaderList


def measure_in_force(state: ControlState, account: Account) -> Enforcement | None:
    """Return the measure against an account; one that ended since the state was loaded is none."""
    measure = state.enforcement.get(account.name)
    return measure if measure is not None and now() < measure.until else None


def check_enforcement(state: ControlState, account: Account) -> bool:
    """Return whether the account is diverted; `PermissionDenied` when it is suspended."""
    measure = measure_in_force(state, account)
    if measure is not None and measure.action == "suspend":
        raise PermissionDenied
    return measure is not None and measure.action == "divert"


def check_rate(limiter: RequestLimiter, key: Key) -> tuple[HeaderList, RateLimited | None]:
    """Take one request from the key's allowance; return the answer's headers, and the refusal when it is used up."""
    if key.requests_per_minute is None:
        return [], None
    allowance = limiter.take(key.family, key.requests_per_minute)
    if allowance.taken:
        return rate_headers(allowance), None
    text = (
        f"Rate limit reached: {allowance.limit} requests per minute. "
        f"Please try again in {duration(allowance.retry_after_s)}."
    )
    return rate_headers(allowance), RateLimited(text, retry_after=allowance.retry_after_s)


def rate_headers(allowance: Allowance) -> HeaderList:
    """Return OpenAI's three headers for requests."""
    return [
        (b"x-ratelimit-limit-requests", b"%d" % allowance.limit),
        (b"x-ratelimit-remaining-requests", b"%d" % allowance.remaining),
        (b"x-ratelimit-reset-requests", duration(allowance.reset_s).encode()),
    ]


def duration(seconds: float) -> str:
    """Write seconds as OpenAI's headers do, such as `120ms`, `6.5s` or `1m0s`."""
    if seconds == float("inf"):
        return "24h0m0s"
    if seconds < 1.0:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
