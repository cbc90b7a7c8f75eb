"""Every answer of the data plane that is not a success.

GatewayError
├── Refused                    the request can't be served as it is
│   ├── BadRequest             400  bad JSON or parameters
│   │   └── UnsupportedParameter  400  an extension that gives away more than OpenAI's API does
│   ├── Unauthenticated        401  an unknown, revoked or expired key, and nothing else
│   │   └── UnknownKey         401  unknown or revoked: only while the keys in memory are sure to be the newest
│   ├── PermissionDenied       403  account suspended, endpoint out of scope; the text does not say which
│   │   └── DeclarationNeeded  403  the account is asked what it does; the text says how to answer, not why it is asked
│   ├── ModelNotFound          404  unknown, or not the caller's: the same reply for both
│   ├── UnknownPath            404  no such path here
│   ├── WrongMethod            405
│   ├── BodyTooSlow            408
│   ├── SameRequestInFlight    409  a request with the same idempotency key is under way
│   ├── BodyTooLarge           413
│   ├── UnsupportedMediaType   415
│   ├── RateLimited            429  requests, tokens, requests in flight, a full queue: with the true time to wait
│   └── QuotaSpent             429  a budget is spent: the SDK is told not to come back
├── ClientLeft                 499  nobody reads it: for records and metrics
├── InternalError              500  our bug
├── UpstreamError              502  a backend failed; below, what may be tried on another one
│   ├── UpstreamRejected       4xx  the backend's own refusal of the request, passed through
│   ├── EndpointNotServed      400  the backend has no such endpoint for this model
│   ├── UpstreamRefusedUs      502  our credential, or a model that the backend does not serve
│   ├── UpstreamProtocol       502  it broke HTTP, SSE or JSON                               (another may be tried)
│   ├── UpstreamDisconnected   502  it left in the middle                                    (another may be tried)
│   ├── UpstreamFailed         502  it answered 5xx                                          (another may be tried)
│   ├── UpstreamUnreachable    503  no connection                                            (another may be tried)
│   ├── UpstreamBusy           503  it answered 429 or 503                                   (another may be tried)
│   └── UpstreamTimeout        504  says which deadline passed
└── Unavailable                503  we can't serve now
    ├── NoControlState         503  no key snapshot yet, or one too old for the request: never a 401
    ├── NoBackend              503  no healthy backend
    ├── Draining               503  this worker is being stopped: `/ready` says so
    ├── NotRecorded            503  the spool takes no record, and settings refuse to serve without
    └── BudgetStoreUnavailable 503  a budget can't be asked, and what is held of it does not suffice
"""

from __future__ import annotations

import http
import json
import math
from typing import Any, ClassVar

_NO_RETRY = (b"x-should-retry", b"false")
_STATUSES = frozenset(http.HTTPStatus)


class GatewayError(Exception):
    """Base of all: `status`, OpenAI's `type`, `code` and `param`, and seconds after which to try again (or None)."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: str | None = None  # OpenAI's finer word for what is wrong
    retryable: ClassVar[bool] = False  # may another backend be tried, as long as no content has been sent?

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    @property
    def answer_status(self) -> int:
        """The HTTP status to send."""
        return self.status

    def body(self) -> dict[str, Any]:
        """OpenAI's error body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def encoded(self) -> bytes:
        """The body as JSON."""
        return json.dumps(self.body()).encode()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`retry-after` (seconds, at most 60: older SDKs ignore more) and `retry-after-ms`, where there is a time."""
        if self.retry_after is None:
            return []
        milliseconds = math.ceil(min(60.0, self.retry_after) * 1000)
        seconds = math.ceil(milliseconds / 1000)
        return [(b"retry-after", b"%d" % seconds), (b"retry-after-ms", b"%d" % milliseconds)]


class Refused(GatewayError):
    """The request can't be served as it is."""

    type = "invalid_request_error"


class BadRequest(Refused):
    """Bad JSON or parameters."""

    status = 400


class UnsupportedParameter(BadRequest):
    """An extension that gives away more than OpenAI's API does."""

    code = "unsupported_parameter"

    def __init__(self, param: str, reason: str = "it is not offered here") -> None:
        super().__init__(f"Unsupported parameter: '{param}': {reason}. Leave it out.", param=param)


class Unauthenticated(Refused):
    """No key, or one that is unknown, revoked or expired."""

    status = 401
    code = "invalid_api_key"


class UnknownKey(Unauthenticated):
    """A key that the control state does not have."""


class PermissionDenied(Refused):
    """The account may not call, or its key not this endpoint."""

    status = 403
    type = "permission_denied"
    code = "permission_denied"

    def __init__(self) -> None:
        super().__init__("This account is not permitted to make this request. Contact the operator of this service.")


class DeclarationNeeded(PermissionDenied):
    """The account is asked for a declared use, and has none yet."""

    def __init__(self) -> None:
        super().__init__()
        self.message = (
            "This account needs a declared use before it can make more requests. Tell the operator of this service "
            "what it uses the service for, how many requests a day that takes, and until when."
        )


class ModelNotFound(Refused):
    """An unknown model, or not the caller's."""

    status = 404
    code = "model_not_found"

    def __init__(self, name: str) -> None:
        text = f"The model '{name[:200]}' does not exist or you do not have access to it. GET /v1/models lists yours."
        super().__init__(text, param="model")


class UnknownPath(Refused):
    """No such path."""

    status = 404
    code = "unknown_url"


class WrongMethod(Refused):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"


class BodyTooSlow(Refused):
    """The client is too slow sending its body."""

    status = 408
    code = "request_timeout"


class SameRequestInFlight(Refused):
    """A request with the same idempotency key is under way."""

    status = 409
    code = "idempotency_key_in_use"

    def __init__(self) -> None:
        text = "A request with this Idempotency-Key is being answered: wait for its answer, or send another key."
        super().__init__(text, param="idempotency-key", retry_after=1.0)


class BodyTooLarge(Refused):
    """The body is over the limit."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(Refused):
    """The body is no plain JSON."""

    status = 415
    code = "unsupported_media_type"


class RateLimited(Refused):
    """A rate, the requests in flight or the queue is full; `retry_after` None: the request never fits its limit."""

    status = 429
    code = "rate_limit_exceeded"

    def __init__(self, message: str, *, kind: str = "requests", retry_after: float | None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """OpenAI's error body; its type says whether requests or tokens are meant."""
        return {"error": super().body()["error"] | {"type": self.kind}}

    def headers(self) -> list[tuple[bytes, bytes]]:
        """When to come back, or not to."""
        return [_NO_RETRY] if self.retry_after is None else super().headers()


class QuotaSpent(Refused):
    """A budget is spent until its day or month ends."""

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Not to come back: an SDK would, at 429."""
        return [_NO_RETRY]


class ClientLeft(GatewayError):
    """The client closed its connection."""

    status = 499
    code = "client_left"

    def __init__(self) -> None:
        super().__init__("The client closed the connection before the answer was complete.")


class InternalError(GatewayError):
    """Our bug."""

    status = 500
    code = "internal_error"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"An internal error occurred. Name the request id {request_id} when you report it.")


class UpstreamError(GatewayError):
    """A backend failed."""

    status = 502
    type = "upstream_error"
    code: str | None = "upstream_error"


class UpstreamRejected(UpstreamError):
    """The backend refused the request itself (4xx); its message, parameter and code reach the client."""

    type = "invalid_request_error"

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        self._status = status
        self.code = code

    @property
    def answer_status(self) -> int:
        """The backend's status; 400 instead of 422, and of what is no status of HTTP."""
        return 400 if self._status == 422 or self._status not in _STATUSES else self._status


class EndpointNotServed(UpstreamError):
    """The backend has no such endpoint for this model: embeddings of a chat model, or the other way round."""

    status = 400
    type = "invalid_request_error"
    code = "unsupported_endpoint"

    def __init__(self) -> None:
        super().__init__("This model does not serve this endpoint: name another model.", param="model")


class UpstreamRefusedUs(UpstreamError):
    """The backend wants a credential that we lack, or does not serve the model it is listed for."""


class UpstreamProtocol(UpstreamError):
    """The backend broke HTTP, SSE or JSON."""

    code = "upstream_protocol_error"
    retryable = True


class UpstreamDisconnected(UpstreamError):
    """The backend left in the middle."""

    code = "upstream_disconnected"
    retryable = True


class UpstreamFailed(UpstreamError):
    """The backend answered 5xx, or an error inside a stream."""

    code = "upstream_failed"
    retryable = True


class UpstreamUnreachable(UpstreamError):
    """No connection to the backend."""

    status = 503
    code = "no_healthy_backend"
    retryable = True


class UpstreamBusy(UpstreamError):
    """The backend takes no more work."""

    status = 503
    code = "backend_busy"
    retryable = True


class UpstreamTimeout(UpstreamError):
    """A deadline passed; the message says which. `blames_backend`: it was ours, and no caller's impatience."""

    status = 504
    code = "upstream_timeout"

    def __init__(self, message: str, *, blames_backend: bool = False) -> None:
        super().__init__(message)
        self.blames_backend = blames_backend


class Unavailable(GatewayError):
    """We can't serve now; trying again soon is right."""

    status = 503
    type = "service_unavailable"
    code = "service_unavailable"

    def __init__(self, message: str, *, retry_after: float = 2.0) -> None:
        super().__init__(message, retry_after=retry_after)


class NoControlState(Unavailable):
    """No key snapshot yet, or one too old."""

    code = "control_state_unavailable"


class NoBackend(Unavailable):
    """No healthy backend."""

    code = "no_healthy_backend"


class Draining(Unavailable):
    """This worker is being stopped."""

    code = "draining"


class NotRecorded(Unavailable):
    """The spool takes no record."""

    code = "not_recorded"


class BudgetStoreUnavailable(Unavailable):
    """Nobody can say what is left of a budget, and what this gateway holds of it does not suffice."""

    code = "budget_store_unavailable"


def _codes(kind: type[GatewayError]) -> set[str]:
    return {kind.code or kind.type}.union(*(_codes(child) for child in kind.__subclasses__()))


REJECTED = "upstream_rejected"
CODES = frozenset(_codes(GatewayError)) | {"context_length_exceeded"}


def counted_as(code: str | None) -> str:
    """Return the code that metrics count an error under ("" for none): ours, or `REJECTED` for a backend's own.

    A backend may put anything into its code, and every new one would be a time series more for good.
    """
    if code is None:
        return ""
    return code if code in CODES else REJECTED
