"""What is read of vLLM's metrics."""

from __future__ import annotations

import pytest

from gateway.fleet.load import Load, parse_load

# As vLLM 0.32 writes it, with a second engine and names that begin like those that are wanted.
PAGE = b"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 3.0
vllm:num_requests_running{engine="1",model_name="a } b"} 2.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a } b"} 4.0
vllm:num_requests_waiting{engine="1",model_name="a } b"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a } b",reason="capacity"} 99.0
vllm:kv_cache_usage_perc{engine="0",model_name="a } b"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a } b"} 0.75
vllm:prefix_cache_queries_total{engine="0",model_name="a } b"} 100.0
vllm:prefix_cache_queries_created{engine="0",model_name="a } b"} 1.7e9
vllm:prefix_cache_queries_total{engine="1",model_name="a } b"} 60.0
vllm:prefix_cache_hits_total{engine="0",model_name="a } b"} 40.0
"""


def test_engines_are_added_up() -> None:
    """Requests and looked-up tokens are summed; of the caches the fullest counts."""
    assert parse_load(PAGE) == Load(running=5, waiting=4, kv_cache=0.75, prefix_queries=160.0, prefix_hits=40.0)


def test_metrics_without_labels_are_read() -> None:
    """So is a last line that does not end."""
    assert parse_load(b"vllm:num_requests_running 1\nvllm:num_requests_waiting 2") == Load(1, 2, 0.0)


@pytest.mark.parametrize(
    "page", [b"", b"process_cpu_seconds_total 1.0\n", PAGE.replace(b"vllm:", b"other:"), b"\xff" * 99]
)
def test_other_pages_are_none(page: bytes) -> None:
    """A page that is not vLLM's says nothing of load."""
    assert parse_load(page) is None


@pytest.mark.parametrize("value", [b"NaN", b"-1", b"+Inf", b"", b"word"])
def test_odd_values_are_left_out(value: bytes) -> None:
    """They are taken for no sample."""
    assert parse_load(b"vllm:num_requests_running{} " + value + b"\nvllm:num_requests_running{} 2\n") == Load(2, 0, 0.0)
