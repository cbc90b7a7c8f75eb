"""What is recorded where text may not be kept, where the spool fails, and behind proxies."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.ledger import accounts, traffic
from gateway.settings import RecordSettings, Settings
from tests.fakes import FakeVllm, Received, Script, answer_like_vllm
from tests.gateway.conftest import RunningGateway, running_gateway, settings_for

BODY: dict[str, Any] = {"model": "teacher", "messages": [{"role": "user", "content": "hi"}]}


def ask(house: RunningGateway, key: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Post to chat completions."""
    auth = {"authorization": f"Bearer {key}"}
    return house.http.post("/v1/chat/completions", headers=auth | (headers or {}), json=BODY | fields)


def test_every_record_is_a_valid_one(house: RunningGateway) -> None:
    """Successes, streams and refusals all have the form that imports and the lake accept."""
    key = house.key()
    ask(house, key)
    ask(house, key, stream=True)
    ask(house, key, model="nobody")
    ask(house, key, metadata=5)
    assert [record["status"] for record in house.frames()] == [200, 200, 404, 400]
    assert [traffic.validate(record) for record in house.frames()] == [[], [], [], []]
    assert traffic.to_table(house.frames()).num_rows == 4


def test_without_text_only_fingerprints_remain(tmp_path: Path, vllm: FakeVllm) -> None:
    """With record.text off no word of prompt or answer reaches the disk."""
    settings = Settings(**vars(settings_for(tmp_path, vllm.url)) | {"record": RecordSettings(text=False)})
    with running_gateway(settings) as house:
        ask(house, house.key(), messages=[{"role": "user", "content": "a private matter"}])
        record = house.record()
        stored = b"".join(path.read_bytes() for path in (tmp_path / "spool" / "w0").glob("*.seg"))
    assert not {"messages", "response"} & record.keys()
    assert set(record["fingerprint"]) == {"skeleton", "minhash", "embedding"}
    assert b"private" not in stored
    assert b"Hello" not in stored


def test_an_account_of_zero_retention_leaves_no_text(house: RunningGateway) -> None:
    """From the moment that it binds, no word of its prompts or answers reaches the disk; others' do."""
    quiet, loud = house.key("quiet"), house.key("loud")
    with house.database.write() as connection:
        accounts.set_keep_text(connection, "quiet", False, "tester")
    house.synchronise()
    house.hide_frames()
    ask(house, quiet, messages=[{"role": "user", "content": "a private matter"}])
    ask(house, loud, messages=[{"role": "user", "content": "a public matter"}])
    stored = b"".join(path.read_bytes() for path in (house.settings.data_dir / "spool" / "w0").glob("*.seg"))
    assert b"private" not in stored
    assert b"public" in stored
    assert set(house.frames()[0]["fingerprint"]) == {"skeleton", "minhash", "embedding"}


def test_a_trusted_proxy_tells_the_clients_network(tmp_path: Path, vllm: FakeVllm, house: RunningGateway) -> None:
    """X-Forwarded-For of a configured proxy is believed, of anybody else not."""
    forwarded = {"x-forwarded-for": "203.0.113.9"}
    ask(house, house.key(), forwarded)
    assert house.record()["client"]["network"] == "127.0.0.0/24"
    with running_gateway(settings_for(tmp_path, vllm.url, trusted_proxies=("127.0.0.0/8",))) as behind:
        ask(behind, behind.key(), forwarded)
        assert behind.record()["client"]["network"] == "203.0.113.0/24"


class FullDisk:
    """`os.write` as on a full disk, for the files of a spool only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self._write = os.write
        monkeypatch.setattr(os, "write", self._on_disk)

    def _on_disk(self, descriptor: int, data: bytes) -> int:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        if self.full and target.endswith(".seg"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(descriptor, data)


@pytest.mark.parametrize("stream", [False, True])
def test_a_spool_that_fails_refuses(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Closed by default: nothing is forwarded unrecorded, the state shows in /ready, recovery is by itself."""
    disk = FullDisk(monkeypatch)
    with running_gateway(settings_for(tmp_path, vllm.url)) as house:
        key = house.key()
        disk.full = True
        answer = ask(house, key, stream=stream)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_recorded")
        assert vllm.received == []
        disk.full = False
        assert ask(house, key, stream=stream).status_code == 200
        assert [record["status"] for record in house.frames()] == [200]


def test_a_disk_that_fills_under_way_is_no_success(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that can't be recorded at its end is 503, or an error event: no client counts it as complete."""
    disk = FullDisk(monkeypatch)

    def fill(request: Received) -> Script:
        disk.full = True
        return answer_like_vllm(request)

    vllm.always(fill)
    with running_gateway(settings_for(tmp_path, vllm.url)) as house:
        key = house.key()
        assert ask(house, key).json()["error"]["code"] == "not_recorded"
        disk.full = False
        text = ask(house, key, stream=True).text
        assert '"code": "not_recorded"' in text
        assert text.endswith("data: [DONE]\n\n")


def test_serving_unrecorded_is_a_choice_and_counted(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With on_spool_failure = "serve" answers go on, and every record that is missing is counted."""
    disk = FullDisk(monkeypatch)
    with running_gateway(settings_for(tmp_path, vllm.url, on_spool_failure="serve")) as house:
        key = house.key()
        disk.full = True
        assert ask(house, key).status_code == 200
        assert '"Hello"' in ask(house, key, stream=True).text
        registry = house.worker.metrics.registry
        assert registry.get_sample_value("spiritsafe_spool_drops_total", {"policy": "serve"}) == 4


def test_metrics_have_the_documented_names(house: RunningGateway) -> None:
    """OpenTelemetry's GenAI names where they exist, else ours; no label names an account or a key."""
    ask(house, house.key(), stream=True)
    families = {family.name: family for family in house.worker.metrics.registry.collect()}
    assert {
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_client_token_usage",
        "spiritsafe_requests",
        "spiritsafe_refusals",
        "spiritsafe_overhead_seconds",
        "spiritsafe_spool_drops",
        "spiritsafe_requests_in_flight",
        "spiritsafe_control_state_age_seconds",
        "spiritsafe_backend_up",
    } <= families.keys()
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert not labels & {"account", "key", "user"}
    values = {value for family in families.values() for sample in family.samples for value in sample.labels.values()}
    assert "acme" not in values
