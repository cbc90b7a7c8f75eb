"""Server-sent events, cut from any byte stream and edited as little as possible."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import UpstreamProtocol
from gateway.protocol.sse import LONGEST_EVENT, EventSplitter, named_event, payload_of, without_usage
from tests.properties import examples

TEXTS = st.text('usage":{},\\é', max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
USAGE = {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}


@given(st.lists(st.integers(1, 20)), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
def test_events_are_whole_wherever_reads_end(sizes: list[int], separator: bytes) -> None:
    """Every way to cut the stream into reads gives the same payloads."""
    stream = separator.join([b'data: {"a":1}', b": ping", b"data: line one", b"data: [DONE]"]) + separator
    splitter, events, position = EventSplitter(), [], 0
    for size in [*sizes, len(stream)]:
        events += splitter.feed(stream[position : position + size])
        position += size
    assert [payload_of(event).strip() for event in events] == [b'{"a":1}', b"", b"line one", b"[DONE]"]


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["id", "choices", "usages", 'x,"usage":{']), VALUES))
def test_usage_is_taken_out_and_nothing_else(chunk: dict[str, Any]) -> None:
    """A chunk without its usage is the same chunk, also where texts quote what looks like usage."""
    payload = json.dumps(chunk | {"usage": USAGE}, separators=(",", ":")).encode()
    assert json.loads(without_usage(payload, chunk | {"usage": USAGE})) == chunk


def test_the_rest_of_a_chunk_stays_byte_for_byte() -> None:
    """Numbers and escapes of vLLM's chunk are not rewritten."""
    before = b'{"id":"x","created":1.50,"choices":[{"delta":{"content":"\\u00e9,\\"usage\\":{"}}]'
    payload = before + b',"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    assert without_usage(payload, json.loads(payload)) == before + b"}"


def test_usage_before_other_fields() -> None:
    """A backend that does not write usage last is served too."""
    payload = b'{"id":"x","usage":{"prompt_tokens":1},"choices":[]}'
    assert json.loads(without_usage(payload, json.loads(payload))) == {"id": "x", "choices": []}


def test_an_event_of_several_data_lines() -> None:
    """Lines of data are joined, as the standard says; other fields are no data."""
    assert payload_of(b"event: x\ndata: a\ndata:b\nid: 5") == b"a\nb"


def test_named_events() -> None:
    """The form of Anthropic and the Responses API: a name before the data, which may be anything but a line's end."""
    assert named_event("ping", b"{}") == b"event: ping\ndata: {}\n\n"
    assert payload_of(b'event: x\ndata: {"a":"data: b"}') == b'{"a":"data: b"}'
    assert payload_of(b"event: x\r\ndata: a") == b"a"
    assert payload_of(b"event: ping") == b""


def test_an_event_of_many_reads_is_cut_in_time() -> None:
    """A giant event costs a search of each read, not of everything before it; one without an end is refused."""
    splitter, began = EventSplitter(), time.process_time()
    for _ in range(LONGEST_EVENT // 4096 - 1):
        assert splitter.feed(b"x" * 4096) == []
    assert [len(event) for event in splitter.feed(b"\n\n")] == [LONGEST_EVENT - 4096]
    assert time.process_time() - began < 1.0
    for _ in range(LONGEST_EVENT // 4096):
        splitter.feed(b"x" * 4096)
    with pytest.raises(UpstreamProtocol):
        splitter.feed(b"x")
