"""What a key may do: its endpoints, and how long an answer it may ask for. Its models are `routing`'s to leave out."""

from __future__ import annotations

import dataclasses

from gateway.errors import BadRequest, PermissionDenied
from gateway.ledger.keys import Scope
from gateway.protocol.requests import Endpoint, InferenceRequest


def check_endpoint(scope: Scope, endpoint: Endpoint) -> None:
    """Raise `PermissionDenied` for an endpoint out of scope; counting tokens goes with the messages it counts for."""
    if scope.endpoints is not None and endpoint.removesuffix(".count_tokens") not in scope.endpoints:
        raise PermissionDenied


def bound_output(scope: Scope, request: InferenceRequest) -> InferenceRequest:
    """Return the request with the scope's maximum where the caller gave none; `BadRequest` where it asked for more.

    A caller's own maximum is never lowered in silence: an answer cut short would look like the model's own.
    """
    most = scope.maximum_output
    if most is None:
        return request
    asked, fields = request.output_limits, request.dialect.output_limits
    for name, value in asked.items():
        # vLLM would read a text or 1e9 as a number too.
        if type(value) is not int or value > most:
            text = f"This key allows at most {most} tokens of output: set '{name}' to a whole number up to {most}."
            raise BadRequest(text, param=name)
    if asked or not fields or most >= request.dialect.assumed_output:
        return request
    return dataclasses.replace(request, injected={fields[0]: most})
