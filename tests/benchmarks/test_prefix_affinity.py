"""The benchmark of prefix affinity, with scripted servers in the place of vLLM."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.prefix_affinity import (
    BLOCK,
    CONTEXT_LENGTH,
    NAMES,
    WAYS,
    Counters,
    Plan,
    Result,
    gateway,
    has_content,
    main,
    measure,
    parse_counters,
    settings_text,
    vllm_server,
    workload,
)
from gateway.settings import load_settings
from tests.fakes import fake_vllm

SMALL = Plan(prompts=3, words=250, asks=4, clients=2, rounds=2)


def test_the_workload_shares_prompts_and_no_question() -> None:
    """Every prompt as often as planned, in another order and with other words for each way and round."""
    asked = workload(SMALL, "affinity 0")
    assert sorted(Counter(messages[0]["content"] for messages in asked).values()) == [4, 4, 4]
    assert len({(messages[0]["content"], messages[1]["content"]) for messages in asked}) == 12
    assert asked == workload(SMALL, "affinity 0")
    others = {messages[0]["content"] for messages in workload(SMALL, "affinity 1")}
    assert others.isdisjoint(messages[0]["content"] for messages in asked)


def test_the_cache_holds_the_half_that_affinity_needs_and_not_all() -> None:
    """Otherwise there would be nothing to show; and a prompt fits into the context."""
    plan = Plan()
    all_tokens = plan.prompts * plan.words * 1.5
    assert all_tokens / 2 < plan.blocks * BLOCK < all_tokens
    assert plan.words * 1.5 < CONTEXT_LENGTH
    arguments = vllm_server(Path("m"), plan).command()
    assert arguments[-len(NAMES) - 3 :] == (
        "--served-model-name",
        *NAMES,
        "--num-gpu-blocks-override",
        str(plan.blocks),
    )


def test_counters_are_read_of_all_engines() -> None:
    """Other counters that are named alike are others."""
    page = (
        '# TYPE vllm:prefix_cache_queries_total counter\nvllm:prefix_cache_queries_total{engine="0"} 100.0\n'
        'vllm:prefix_cache_queries_total{engine="1"} 20.0\nvllm:prefix_cache_hits_total{engine="0"} 40.0\n'
        'vllm:external_prefix_cache_hits_total{engine="0"} 7.0\nvllm:prefix_cache_hits_created{engine="0"} 1.7e9\n'
    )
    assert parse_counters(page) == Counters(120.0, 40.0)
    assert Counters(120.0, 40.0) - Counters(20.0, 10.0) == Counters(100.0, 30.0)


def test_the_summary_is_over_all_servers_and_rounds() -> None:
    """Rates are of sums."""
    result = Result([0.1] * 19 + [0.5], 10.0, [Counters(100, 90), Counters(300, 30)])
    assert result.summary()["hit_rate"] == 0.3
    assert result.summary()["prefilled_tokens"] == 280
    assert result.summary()["first_token_p50_ms"] == 100.0
    assert result.summary()["requests_per_s"] == 2.0


def test_content_is_told_from_the_rest() -> None:
    """The role, comments and the end are no content; an error is one."""
    assert has_content('data: {"choices":[{"delta":{"content":"a"}}]}')
    for line in (": ping", "", "data: [DONE]", 'data: {"choices":[{"delta":{"content":""}}]}', 'data: {"choices":[]}'):
        assert not has_content(line)
    with pytest.raises(RuntimeError, match="failed"):
        has_content('data: {"error": {"message": "failed"}}')


def test_settings_name_every_way(tmp_path: Path) -> None:
    """Both servers for two ways, one each for round robin."""
    (tmp_path / "s.toml").write_text(settings_text(["http://a", "http://b"]))
    models = {model.name: model for model in load_settings(tmp_path / "s.toml", {}).models}
    assert {name: (model.urls, model.balance) for name, model in models.items()} == {
        "affinity": (("http://a", "http://b"), "affinity"),
        "least_busy": (("http://a", "http://b"), "least_busy"),
        "first": (("http://a",), "affinity"),
        "second": (("http://b",), "affinity"),
    }


@pytest.mark.slow
async def test_the_whole_with_scripted_servers(tmp_path: Path) -> None:
    """Every way asks everything; by affinity a prompt meets one server, round robin it meets both alike."""
    with fake_vllm(NAMES) as one, fake_vllm(NAMES) as other, gateway(tmp_path, [one.url, other.url]) as (url, key):
        results = await measure(SMALL, [one.url, other.url], url, key)
        received = [(fake, got.body) for fake in (one, other) for got in fake.received]
    assert {way: len(result.first_token_s) for way, result in results.items()} == dict.fromkeys(WAYS, 24)
    assert all(result.seconds > 0 for result in results.values())
    met = {(body["messages"][0]["content"], fake.port) for fake, body in received if body["model"] == "affinity"}
    assert len(met) == SMALL.prompts * SMALL.rounds
    assert len([body for _, body in received if body["model"] == "first"]) == 12


def test_without_vllm_it_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And ends with 1."""
    assert main(["--model", str(tmp_path / "none")]) == 1
    assert "make setup-all" in capsys.readouterr().err
