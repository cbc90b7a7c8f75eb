"""The records of live requests: what is written while a request is under way, and what becomes of it afterwards.

While a client waits, a record takes what is at hand: figures, and the bytes of request and answer as they came, under
`wire`. `complete` makes the documented form of it (`traffic.py`) where nobody waits: in the ingester.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson

from gateway.ledger.content import text_of
from gateway.ledger.fingerprint import conversation, signature
from gateway.ledger.identifiers import rfc3339_of
from gateway.protocol.dialects import DIALECTS
from gateway.protocol.exchange import Exchange
from gateway.protocol.head import Head
from gateway.protocol.requests import InferenceRequest, tool_names

WIRE = "wire"

logger = logging.getLogger(__name__)


def was_answered(exchange: Exchange) -> bool:
    """Did somebody answer, if only in part? That is billed; a failure before any content is not, whatever was sent."""
    if exchange.status == 200:
        return exchange.error is None or exchange.answer.content_chunks > 0
    return exchange.status == 499


def start_record(exchange: Exchange) -> dict[str, Any]:
    """Return the little that is known before a request is forwarded; fields without a value are absent."""
    account, key, request, route = exchange.account, exchange.key, exchange.request, exchange.route
    record: dict[str, Any] = {
        "id": exchange.id,
        "time": rfc3339_of(exchange.time_ns),
        "origin": "live",
        "endpoint": exchange.endpoint,
    }
    if account is not None:
        record["account"] = account.name
    if key is not None:
        record["key"] = key.id
    if request is not None:
        record["model_requested"] = request.model
    if route is not None:
        record["route"] = route.decision
    _add_extra(record, exchange)
    return record


def final_record(
    exchange: Exchange, usage: dict[str, Any], client: dict[str, Any], *, keep_text: bool
) -> dict[str, Any]:
    """Return the record of a finished request, with text or with what outlives it; absent is what has no value."""
    request, route, timing, answer = exchange.request, exchange.route, exchange.timing, exchange.answer
    record = start_record(exchange)
    if route is not None and was_answered(exchange):
        record["model"] = route.model
        record["model_role"] = route.role
        record["counterfactual_cost"] = cost_of(usage, route.teacher_prices) if usage else 0
    else:
        record["model"] = request.model if request is not None else "unknown"
        record["counterfactual_cost"] = 0
    record["status"] = exchange.status
    record["cost"] = exchange.cost
    record["latency_ms"] = round(timing.elapsed_ms(), 3)
    record["overhead_ms"] = round(timing.overhead_ms(), 3)
    record["client"] = client
    if timing.first_content is not None:
        record["time_to_first_token_ms"] = round((timing.first_content - timing.received) * 1000, 3)
    if timing.queued_s:
        record["queue_ms"] = round(timing.queued_s * 1000, 3)
    if exchange.error is not None:
        record["error"] = exchange.error
    if answer.finish_reason is not None:
        record["finish_reason"] = answer.finish_reason
    if usage:
        record["usage"] = usage
    if exchange.preferences.tags:
        record["tags"] = exchange.preferences.tags
    if request is not None:
        if keep_text:
            _add_wire(record, exchange, request)
        else:
            _add_request(record, request, with_text=False)
            record["fingerprint"] = _fingerprint(record, request)
    return record


def complete(record: dict[str, Any]) -> dict[str, Any]:
    """Return the documented form of a record as the spool has it."""
    wire = record.get(WIRE)
    if wire is None:
        return record
    made = {name: value for name, value in record.items() if name != WIRE}
    try:
        _add_from_wire(made, wire)
    except Exception:
        # It was understood when it was served; whatever went wrong here, nothing is lost.
        logger.exception("request and answer of a record are kept as they came", extra={"id": record.get("id")})
        made["extra"] = {**made.get("extra", {}), WIRE: wire}
    return made


def client_of(head: Head, network: str | None) -> dict[str, Any]:
    """Return what a record says of the client: how it orders its headers, what it calls itself, where it is."""
    client: dict[str, Any] = {"fingerprint": head.fingerprint}
    agent = head.headers.get(b"user-agent")
    if agent is not None:
        client["user_agent"] = agent.decode("latin-1")
    if network is not None:
        client["network"] = network
    return client


def _add_extra(record: dict[str, Any], exchange: Exchange) -> None:
    """Note what lets a caller find its request again: its own name for it, and its trace."""
    if exchange.request_id is not exchange.id:
        record["extra"] = {"request_id": exchange.request_id}
    if exchange.head.traceparent is not None:
        record.setdefault("extra", {})["traceparent"] = exchange.head.traceparent.decode()


def _add_wire(record: dict[str, Any], exchange: Exchange, request: InferenceRequest) -> None:
    wire: dict[str, Any] = {"request": orjson.Fragment(request.raw)}
    if exchange.whole is not None:
        wire["answer"] = orjson.Fragment(exchange.whole)
    elif exchange.answer.choices:
        record["response"] = exchange.answer.response()
    if request.known_skeleton is not None:
        record["fingerprint"] = {"skeleton": request.known_skeleton}
    record[WIRE] = wire


def _add_from_wire(record: dict[str, Any], wire: dict[str, Any]) -> None:
    dialect, body = DIALECTS[record["endpoint"]], wire["request"]
    request = InferenceRequest(record["endpoint"], b"", body, record["model_requested"], bool(body.get("stream")))
    _add_request(record, request, with_text=True)
    record[dialect.text] = request.subject[dialect.text]
    if "fingerprint" not in record and request.form_skeleton is not None:
        record["fingerprint"] = {"skeleton": request.form_skeleton}
    if "answer" in wire:
        answer = dialect.answer()
        answer.add_whole(wire["answer"])
        if answer.choices:
            record["response"] = answer.response()


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


def _fingerprint(record: dict[str, Any], request: InferenceRequest) -> dict[str, Any]:
    """Make now what is made of text later, for a text that goes no further; bytes are spelt in hexadecimal."""
    made = {name: value.hex() for name, value in signature(text_of(request.subject)).items()}
    field = DIALECTS[request.endpoint].text
    spoken = conversation({**record, field: request.subject[field]})
    return {"skeleton": request.skeleton, "conversation": spoken} | made


def cost_of(usage: dict[str, Any], prices: tuple[int, int]) -> int:
    """Return integer nano-dollars."""
    cost: int = usage["input_tokens"] * prices[0] + usage["output_tokens"] * prices[1]
    return cost
