"""What is recorded where text may not be kept, where the spool fails, and behind proxies."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import NotRecorded
from gateway.ledger import accounts, fingerprint, limits, traffic
from gateway.ledger.frames import Kind
from gateway.ledger.spool import read_segment, segments
from gateway.protocol.exchange import Exchange
from gateway.settings import RecordSettings, Settings, SpoolSettings
from tests.fakes import FakeVllm, Received, Script, answer_like_vllm
from tests.gateway.conftest import RunningGateway, eventually, running_gateway, settings_for
from tests.gateway.ledger.power import Disk

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
    assert set(record["fingerprint"]) == {"skeleton", "minhash", "embedding", "conversation"}
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
    assert set(house.frames()[0]["fingerprint"]) == {"skeleton", "minhash", "embedding", "conversation"}


def test_a_fingerprint_is_the_same_without_the_text(house: RunningGateway) -> None:
    """Made before spooling for who keeps no text, at ingestion for others: detection can't tell them apart."""
    key, messages = house.key(), [{"role": "system", "content": "be brief"}, *BODY["messages"]]
    ask(house, key, messages=messages)
    ask(house, key, {"x-spiritsafe-no-log": "true"}, messages=messages)
    with_text, without = traffic.to_table([fingerprint.complete(frame) for frame in house.frames()]).to_pylist()
    assert (with_text["messages"] is None, without["messages"] is None) == (False, True)
    for name in ("skeleton", "minhash", "embedding", "conversation"):
        assert with_text[name] == without[name] is not None


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


def test_what_could_not_be_recorded_costs_nothing(own_house: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is held back then, and neither its record nor the budget says that somebody paid for it."""
    key, recorder = own_house.key(), own_house.worker.recorder
    with own_house.database.write() as connection:
        limits.assign(connection, "account", "acme", {"usd_day": 10**9}, "test")
    own_house.synchronise()
    write, tries = recorder._write_final, [NotRecorded("the disk was full")]

    def fail_once(exchange: Exchange, record: dict[str, Any]) -> None:
        if tries:
            raise tries.pop()
        write(exchange, record)

    monkeypatch.setattr(recorder, "_write_final", fail_once)
    assert ask(own_house, key).json()["error"]["code"] == "not_recorded"
    (budget,) = own_house.worker.limiter._leases.values()
    assert (own_house.record()["status"], own_house.record()["cost"], budget.cells[budget.at + 1]) == (503, 0, 0)
    assert ask(own_house, key).status_code == 200
    assert budget.cells[budget.at + 1] == own_house.record()["cost"] > 0


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


def _spooled(tmp_path: Path, url: str, on_spool_failure: str = "refuse", **spool: Any) -> Settings:
    settings = settings_for(tmp_path / "data", url, on_spool_failure=on_spool_failure)
    return Settings(**vars(settings) | {"spool": SpoolSettings(**spool)})


def _survivors(folder: Path) -> list[tuple[int, str]]:
    frames = [frame for path in segments(folder / "spool" / "w0") for frame in read_segment(path)]
    return [(frame.record["status"], frame.record["id"]) for frame in frames if frame.kind is Kind.FINAL]


class SlowDisk:
    """`os.fsync` that waits until it is let through, for threads of a spool."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.waiting = threading.Event()
        self._through: Callable[[int], None] = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        if threading.current_thread().name.startswith("spool-"):
            self.waiting.set()
            assert self.open.wait(20)
        self._through(descriptor)


@pytest.mark.parametrize("ask_for", [{}, {"stream": True}, {"model": "nobody"}], ids=["whole", "stream", "refusal"])
def test_in_strict_mode_an_answer_survives_a_power_cut(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch, ask_for: dict[str, Any]
) -> None:
    """Whoever has read an answer to its end finds its record on the disk, whatever the window is."""
    disk = Disk(tmp_path / "data").install(monkeypatch)
    with running_gateway(_spooled(tmp_path, vllm.url, durability="strict", group_commit_ms=60_000)) as house:
        key = house.key()
        for number in range(1, 4):
            status = ask(house, key, **ask_for).status_code
            assert [found for found, _id in _survivors(disk.cut(tmp_path / str(number)))] == [status] * number
    disk.close()


def test_in_strict_mode_the_event_loop_waits_for_no_disk(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a disk that hangs answers are held back, and the worker goes on with everything else."""
    disk = SlowDisk(monkeypatch)
    with running_gateway(_spooled(tmp_path, vllm.url, durability="strict")) as house, ThreadPoolExecutor(3) as pool:
        key = house.key()
        answers = [pool.submit(ask, house, key, stream=stream) for stream in (False, True)]
        answers.append(pool.submit(ask, house, key, model="nobody"))
        eventually(lambda: len(house.frames()) == 3)
        assert disk.waiting.is_set()
        assert house.http.get("/health").status_code == 200
        assert not any(answer.done() for answer in answers)
        disk.open.set()
        assert [answer.result(20).status_code for answer in answers] == [200, 200, 404]
        assert answers[1].result().text.endswith("data: [DONE]\n\n")


def test_a_client_that_leaves_while_its_record_is_synced_holds_up_nobody(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is over, and recorded, and the next one is served."""
    disk = SlowDisk(monkeypatch)
    with running_gateway(_spooled(tmp_path, vllm.url, durability="strict")) as house:
        key = house.key()
        with house.http.stream(
            "POST", "/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=BODY | {"stream": True}
        ) as answer:
            next(answer.iter_raw())
            eventually(lambda: len(house.frames()) == 1)
        eventually(lambda: house.worker.metrics.in_flight == 0)
        disk.open.set()
        assert ask(house, key).status_code == 200
        assert [record["status"] for record in house.frames()] == [200, 200]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("policy", ["refuse", "serve"])
def test_in_strict_mode_a_disk_that_can_not_be_synced_is_a_choice(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch, stream: bool, policy: str
) -> None:
    """503 or an error event for who would have believed the record kept; or its answer, counted; and the loop heals."""
    disk = Disk(tmp_path / "data").install(monkeypatch)
    with running_gateway(_spooled(tmp_path, vllm.url, policy, durability="strict")) as house:
        key = house.key()
        assert house.http.get("/ready").status_code == 200
        disk.failing = OSError(errno.EIO, "Input/output error")
        answer = ask(house, key, stream=stream)
        assert ('"not_recorded"' in answer.text) == (policy == "refuse")
        metrics = house.worker.metrics
        assert metrics.registry.get_sample_value("spiritsafe_spool_drops_total", {"policy": policy}) >= 1
        eventually(lambda: metrics.registry.get_sample_value("spiritsafe_spool_sync_failures_total") > 0)
        assert house.http.get("/ready").status_code == (503 if policy == "refuse" else 200)
        disk.failing = None
        eventually(lambda: house.worker.recorder._spool._failure is None, 20)
        assert house.http.get("/ready").status_code == 200
        assert ask(house, key, stream=stream).status_code == 200
    disk.close()


@pytest.mark.parametrize("policy", ["refuse", "serve"])
def test_a_spent_disk_budget_is_a_choice(tmp_path: Path, vllm: FakeVllm, policy: str) -> None:
    """At its end new requests get 503 or go unrecorded, counted; those under way are recorded all the same."""
    spent: list[bool] = []

    def spend(request: Received) -> Script:
        spent.append(house.worker._disk.has_room())
        house.worker._disk.used_bytes = 10**12
        return answer_like_vllm(request)

    with running_gateway(_spooled(tmp_path, vllm.url, policy, budget_bytes=10**9)) as house:
        key = house.key()
        vllm.always(spend)
        assert ask(house, key).status_code == 200
        assert (spent, len(house.frames())) == ([True], 1)
        answer = ask(house, key)
        assert answer.status_code == (503 if policy == "refuse" else 200)
        assert len(house.frames()) == 1
        eventually(lambda: house.worker._disk.has_room())  # the next measure says what is really there
        assert ask(house, key).status_code == 200


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT, errno.EMFILE])
def test_a_disk_that_opens_no_file_refuses(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Read-only, out of quota or of descriptors: 503 with the reason in the log, and recovery when it is over."""
    through, failing = os.open, [True]

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if failing[0] and "/spool/" in str(path):
            raise OSError(number, os.strerror(number))
        return through(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)
    with running_gateway(settings_for(tmp_path / "data", vllm.url)) as house:
        key = house.key()
        assert ask(house, key).json()["error"]["code"] == "not_recorded"
        assert house.http.get("/ready").status_code == 503
        failing[0] = False
        eventually(lambda: ask(house, key).status_code == 200)


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
