"""A worker as a whole: students and `auto`, the control plane gone, processes that die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway import reload
from gateway.ledger import accounts, drains, keys, limits, metric_files, registry
from gateway.ledger.database import Database
from gateway.ledger.distance import Distance
from tests.conftest import ROOT
from tests.control_plane import impose
from tests.fakes import FakeVllm, Hang, Received, Script, Wait, chat_answer, chat_stream, fake_vllm
from tests.gateway.commands.cli import Cli
from tests.gateway.conftest import RunningGateway, eventually, running_gateway, settings_for
from tests.gateway.test_routing import FAR, ROWS, SYSTEM, student

HI: list[Any] = [{"role": "user", "content": "hi"}]
SETTINGS = (
    'data_dir = "data"\n[[models]]\nname = "teacher"\nbackends = {backends}\ninput_price = 1.0\noutput_price = 3.0\n'
)
NEAR = [SYSTEM, {"role": "user", "content": "Which colour has a ripe fig?"}]


@pytest.fixture
def fruit_vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM that serves the student."""
    with fake_vllm(["fruit@1"]) as fake:
        yield fake


@pytest.fixture
def fruit(house: RunningGateway, fruit_vllm: FakeVllm, tmp_path: Path) -> Iterator[registry.Student]:
    """A candidate of the task in the registry, served; taken out again afterwards."""
    fitted = Distance.fit(ROWS)
    threshold = (fitted.distance("Which colour has a ripe fig?") + fitted.distance(FAR)) / 2
    fitted.with_threshold(threshold).save(tmp_path / "distance.npz")
    made = student(tmp_path / "distance.npz", "candidate", url=fruit_vllm.url)
    with house.database.write() as connection:
        registry.add(connection, made, "test")
    house.synchronise()
    yield made
    with house.database.write() as connection:
        connection.execute(registry.table.delete())
    house.synchronise()


def ask(house: RunningGateway, key: str, **fields: Any) -> httpx.Response:
    body = {"model": "auto", "messages": NEAR} | fields
    return house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, json=body)


def route(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["x-spiritsafe-model"], answer.headers["x-spiritsafe-route-reason"]


def test_candidates_are_for_operators(house: RunningGateway, fruit: registry.Student, fruit_vllm: FakeVllm) -> None:
    """Before promotion a student exists for operators' accounts only; for others it is an unknown model."""
    key, operator = house.key(), _operator_key(house)
    with pytest.raises(openai.NotFoundError) as caught:
        house.client(key).chat.completions.create(model="fruit@1", messages=HI)
    with pytest.raises(openai.NotFoundError) as unknown:
        house.client(key).chat.completions.create(model="other@1", messages=HI)
    assert str(caught.value).replace("fruit", "other") == str(unknown.value)
    assert [model.id for model in house.client(key).models.list()] == ["auto", "teacher"]
    assert [model.id for model in house.client(operator).models.list()] == ["auto", "teacher", "fruit@1"]
    answer = ask(house, operator, model="fruit")
    assert route(answer) == ("fruit@1", "pinned")
    assert answer.json()["model"] == fruit_vllm.received[-1].body["model"] == "fruit@1"
    assert route(ask(house, key)) == ("teacher", "no_student")


def _operator_key(house: RunningGateway) -> str:
    house.account("evaluator", operator=True)
    return house.key("evaluator")


def test_promotion_and_rollback_move_auto(house: RunningGateway, fruit: registry.Student) -> None:
    """Once promoted the student answers what is of its task, at its price, and nothing else; a rollback ends that."""
    key = house.key()
    with house.database.write() as connection:
        registry.promote(connection, fruit.reference, "paula")
    house.synchronise()
    answer = ask(house, key)
    assert route(answer) == ("fruit@1", "adequate")
    assert int(answer.headers["x-spiritsafe-cost"]) == 7 * 400 + 3 * 1200
    record = house.record()
    assert (record["model"], record["model_role"], record["model_requested"]) == ("fruit@1", "student", "auto")
    assert record["route"]["task"] == "fruit-colour"
    assert isinstance(record["route"]["adequacy"], float)
    assert (record["cost"], record["counterfactual_cost"]) == (6400, 16000)
    assert record["fingerprint"]["skeleton"] == fruit.skeleton
    assert route(ask(house, key, messages=[SYSTEM, {"role": "user", "content": FAR}])) == ("teacher", "too_far")
    assert route(ask(house, key, messages=HI)) == ("teacher", "not_task")
    assert route(ask(house, key, model="teacher")) == ("teacher", "pinned")
    assert route(ask(house, key, model="fruit")) == ("fruit@1", "pinned")
    with house.database.write() as connection:
        registry.rollback(connection, fruit.reference, "paula")
    house.synchronise()
    assert route(ask(house, key)) == ("teacher", "no_student")


def test_a_diverted_account_gets_the_student(house: RunningGateway, fruit: registry.Student) -> None:
    """`auto` of a diverted account goes to the student whatever it asks; what it pins it still gets."""
    key, other = house.key("suspect"), house.key()
    with house.database.write() as connection:
        registry.promote(connection, fruit.reference, "paula")
        impose(connection, "suspect", "divert", "paula", "harvests")
    house.synchronise()
    far = [{"role": "user", "content": FAR}]
    assert route(ask(house, key, messages=far)) == ("fruit@1", "policy")
    assert route(ask(house, key, messages=far, model="teacher")) == ("teacher", "pinned")
    assert route(ask(house, other, messages=far)) == ("teacher", "not_task")


def test_a_dead_student_is_replaced_by_the_teacher(
    house: RunningGateway, fruit: registry.Student, fruit_vllm: FakeVllm
) -> None:
    """When its server is gone the next requests of its task go to the teacher, and say why."""
    key = house.key()
    with house.database.write() as connection:
        registry.promote(connection, fruit.reference, "paula")
    house.synchronise()
    assert route(ask(house, key)) == ("fruit@1", "adequate")
    fruit_vllm.stop()
    eventually(lambda: not any(pool.ready for name, pool in house.worker.catalogue.pools() if name == "fruit@1"), 3.0)
    assert route(ask(house, key)) == ("teacher", "unhealthy")


def test_a_drained_backend_finishes_and_gets_nothing_new(tmp_path: Path, vllm: FakeVllm) -> None:
    """Within a second of the decision, without a stream under way being cut; undone it serves again."""
    wanted: dict[str, Any] = {"model": "teacher", "messages": HI}
    with fake_vllm() as second, running_gateway(settings_for(tmp_path, vllm.url, second.url)) as house:
        key = house.key()
        ask(house, key, **wanted)
        owner, other = (vllm, second) if vllm.received else (second, vllm)
        owner.play(*chat_stream("teacher", ["a"] * 10, pause_s=0.15))
        stream = house.client(key).chat.completions.create(**wanted, stream=True)
        next(stream)
        _drain(house, owner.url, drained=True)
        assert [ask(house, key, **wanted).status_code for _ in range(3)] == [200] * 3
        assert (len(owner.received), len(other.received)) == (2, 3)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "a" * 10
        _drain(house, owner.url, drained=False)
        ask(house, key, **wanted)
        assert len(owner.received) == 3


def _drain(house: RunningGateway, url: str, *, drained: bool) -> None:
    with house.database.write() as connection:
        if drained:
            drains.begin(connection, url, "paula", "")
        else:
            drains.end(connection, url, "paula", "")
    eventually(lambda: house.worker.fleet.backends[url].drained is drained, 1.0)


def test_a_dead_control_plane_is_never_a_401(tmp_path: Path, vllm: FakeVllm) -> None:
    """Known keys are served from memory for a time, then it is 503 with Retry-After; no key becomes unknown."""
    with running_gateway(settings_for(tmp_path, vllm.url, snapshot_max_age_s=1.0)) as house:
        key = house.key()
        for path in tmp_path.glob("control.sqlite*"):
            path.unlink()
        assert ask(house, key).status_code == 200
        answers = [ask(house, key)]
        while answers[-1].status_code == 200:
            time.sleep(0.05)
            answers.append(ask(house, key))
        assert answers[-1].status_code == 503
        assert answers[-1].json()["error"]["code"] == "control_state_unavailable"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 5
        assert ask(house, "sk-safe-nobody").status_code == 503
        assert house.http.get("/ready").status_code == 503
        assert house.http.get("/health").status_code == 200
        assert not (tmp_path / "control.sqlite").exists()


def test_a_key_made_while_the_control_plane_is_away_is_not_called_wrong(tmp_path: Path, vllm: FakeVllm) -> None:
    """A second after the last word of the control plane a key that is not known may be new: 503; none at all is 401."""
    with running_gateway(settings_for(tmp_path, vllm.url)) as house:
        key = house.key()
        assert ask(house, "sk-safe-nobody").status_code == 401
        for path in tmp_path.glob("control.sqlite*"):
            path.unlink()
        eventually(lambda: ask(house, "sk-safe-nobody").status_code == 503)
        assert house.worker.control.age_s > 1.0
        assert ask(house, "sk-safe-nobody").json()["error"]["code"] == "control_state_unavailable"
        assert house.http.get("/v1/models", headers={"authorization": "Bearer sk-safe-nobody"}).status_code == 503
        assert house.http.get("/v1/models").status_code == 401
        assert ask(house, key).status_code == 200


def test_a_control_plane_that_answers_late_holds_up_nobody(
    tmp_path: Path, vllm: FakeVllm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Known keys are served at once, one that is not known is 503; what was decided binds as soon as it answers."""
    with running_gateway(settings_for(tmp_path, vllm.url)) as house:
        key, late, kind = house.key(), threading.Event(), type(house.worker.control._watch)
        revision = kind.revision

        def after_a_while(watch: Any) -> int:
            late.wait(20.0)
            return int(revision(watch))

        monkeypatch.setattr(kind, "revision", after_a_while)
        with house.database.write() as connection:
            keys.revoke(connection, keys.every(connection, "acme")[0].id, "test")
        eventually(lambda: house.worker.control.age_s > 1.2)
        began = time.monotonic()
        assert ask(house, key).status_code == 200
        assert ask(house, "sk-safe-nobody").status_code == 503
        assert house.http.get("/ready").status_code == 200
        assert time.monotonic() - began < 10.0
        late.set()
        eventually(lambda: ask(house, key).status_code == 401)


@contextmanager
def gateway_command(folder: Path, *urls: str, workers: int = 2) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run `spiritsafe gateway` with a settings file; yields the parent and the address."""
    backends = json.dumps(list(urls))
    (folder / "spiritsafe.toml").write_text(SETTINGS.format(backends=backends))
    command = [sys.executable, "-m", "gateway.cli", "gateway", "--port", "0", "--workers", str(workers), "--json"]
    with (folder / "log").open("wb") as log:
        parent = subprocess.Popen(
            [*command, "--config", str(folder / "spiritsafe.toml")], stdout=subprocess.PIPE, stderr=log
        )
    assert parent.stdout is not None
    url = json.loads(parent.stdout.readline())["url"]
    try:
        eventually(lambda: len(_children(parent.pid)) == workers and _answers(url), 30.0)
        yield parent, url
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _answers(url: str) -> bool:
    try:
        return httpx.get(url + "/ready", verify=False).status_code == 200
    except httpx.TransportError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_workers_come_back_and_go_with_their_parent(tmp_path: Path) -> None:
    """A killed worker is started again while the other serves; the parent's death takes all with it."""
    with gateway_command(tmp_path, "http://127.0.0.1:9") as (parent, url):
        workers = _children(parent.pid)
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda: len(_children(parent.pid)) == 2 and workers[0] not in _children(parent.pid), 20.0)
        # The new one is there when both listen: many connections meet both.
        eventually(lambda: all(_answers(url) for _ in range(8)), 20.0)
        children = _children(parent.pid)
        os.kill(parent.pid, signal.SIGKILL)
        eventually(lambda: not any(map(_is_alive, children)), 10.0)


@pytest.mark.slow
def test_a_killed_gateway_gives_back_what_it_had_reserved(tmp_path: Path, vllm: FakeVllm) -> None:
    """Place and budget of a request under way are free again once its worker is gone, and the next one is served."""
    vllm.play(Hang())
    with gateway_command(tmp_path, vllm.url, workers=1) as (parent, url), ThreadPoolExecutor(1) as threads:
        key = _key(tmp_path)
        with Database(f"sqlite:///{tmp_path / 'data' / 'control.sqlite'}").write() as connection:
            # One answer of the default context at 1 and 3 dollars a million tokens fits, and no second beside it.
            limits.assign(connection, "account", "acme", {"parallel": 1, "usd_day": 9_000_000}, "test")
        time.sleep(0.5)
        under_way = threads.submit(_ask_at, url, key, False)
        eventually(lambda: len(vllm.received) == 1)
        assert _ask_at(url, key, False).status_code == 429
        (worker,) = _children(parent.pid)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            under_way.result(20)
        eventually(lambda: _answers(url), 30.0)
        assert _ask_at(url, key, False).status_code == 200


@pytest.mark.slow
def test_a_stopped_worker_finishes_its_answers(tmp_path: Path, vllm: FakeVllm) -> None:
    """SIGTERM lets a stream under way come to its end; afterwards nobody listens and the parent has ended well."""
    vllm.play(*chat_stream("teacher", ["a"] * 10, pause_s=0.1))
    with gateway_command(tmp_path, vllm.url, workers=1) as (parent, url):
        with Database(f"sqlite:///{tmp_path / 'data' / 'control.sqlite'}").write() as connection:
            accounts.create(connection, accounts.new("acme"), "test")
            _, key = keys.create(connection, keys.ensure_secret(connection, tmp_path / "data"), "acme", "test")
        time.sleep(0.5)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
        stream = client.chat.completions.create(model="teacher", messages=HI, stream=True)
        next(stream)
        parent.send_signal(signal.SIGTERM)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "a" * 10
        assert parent.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1)


@pytest.mark.slow
def test_a_connection_that_was_promised_to_be_kept_serves_one_more(tmp_path: Path, vllm: FakeVllm) -> None:
    """A stream that began before SIGTERM did not say that its connection ends: the next request is answered."""
    vllm.always(lambda request: chat_stream("teacher", ["a"] * 20, pause_s=0.1))
    with gateway_command(tmp_path, vllm.url, workers=1) as (parent, url):
        auth = {"authorization": f"Bearer {_key(tmp_path)}"}
        wanted: dict[str, Any] = {"model": "teacher", "messages": HI, "stream": True}
        with httpx.Client(base_url=url, headers=auth, timeout=20) as client:
            with client.stream("POST", "/v1/chat/completions", json=wanted) as stream:
                lines = stream.iter_lines()
                next(lines)
                parent.send_signal(signal.SIGTERM)
                assert "data: [DONE]" in list(lines)
            vllm.always(None)
            answer = client.post("/v1/chat/completions", json=wanted | {"stream": False})
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert parent.wait(20) == 0


@pytest.mark.slow
def test_who_connects_while_the_loop_is_held_up_is_heard(tmp_path: Path, vllm: FakeVllm) -> None:
    """The notice is over when the loop goes on, and clients wait that it has not accepted yet."""
    with gateway_command(tmp_path, vllm.url, workers=1) as (parent, url):
        key = _key(tmp_path)
        (worker,) = _children(parent.pid)
        parent.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        os.kill(worker, signal.SIGSTOP)
        with ThreadPoolExecutor(20) as threads:
            wanted = [threads.submit(_ask_at, url, key, False) for _ in range(20)]
            time.sleep(1.5)
            os.kill(worker, signal.SIGCONT)
            assert [future.result(20).status_code for future in wanted] == [200] * 20
        assert parent.wait(20) == 0


@pytest.mark.slow
def test_every_accepted_request_is_answered_before_a_worker_ends(tmp_path: Path, vllm: FakeVllm) -> None:
    """SIGTERM: not ready at once, then deaf to new connections, and gone when the last of many answers is complete."""

    def script(request: Received) -> Script:
        stream = chat_stream("teacher", ["a"] * 25, pause_s=0.1)
        return stream if request.body.get("stream") else [Wait(2.5), chat_answer("teacher", "whole")]

    vllm.always(script)
    with gateway_command(tmp_path, vllm.url, workers=1) as (parent, url), ThreadPoolExecutor(24) as threads:
        key = _key(tmp_path)
        wanted = [threads.submit(_ask_at, url, key, number % 2 == 0) for number in range(20)]
        eventually(lambda: len(vllm.received) == 20)
        parent.send_signal(signal.SIGTERM)
        eventually(lambda: httpx.get(url + "/ready").status_code == 503, 1.0)
        late = threads.submit(_ask_at, url, key, False)
        eventually(lambda: not _answers(url) and _is_refused(url), 3.0)
        assert parent.poll() is None
        answers = [future.result(20) for future in (*wanted, late)]
        assert parent.wait(20) == 0
    assert [answer.status_code for answer in answers] == [200] * 21
    for number, answer in enumerate(answers):
        assert ("data: [DONE]" in answer.text) if number % 2 == 0 and number < 20 else ("whole" in answer.text)


def _key(folder: Path) -> str:
    with Database(f"sqlite:///{folder / 'data' / 'control.sqlite'}").write() as connection:
        accounts.create(connection, accounts.new("acme"), "test")
        _, key = keys.create(connection, keys.ensure_secret(connection, folder / "data"), "acme", "test")
    time.sleep(0.5)
    return key


def _ask_at(url: str, key: str, stream: bool) -> httpx.Response:
    body = {"model": "teacher", "messages": HI, "stream": stream}
    headers = {"authorization": f"Bearer {key}"}
    # No TLS is spoken here, and reading the authorities' certificates takes longer than the rest.
    return httpx.post(f"{url}/v1/chat/completions", headers=headers, json=body, timeout=30, verify=False)


def _is_refused(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.slow
def test_a_changed_file_is_taken_over_live(tmp_path: Path, vllm: FakeVllm) -> None:
    """By every worker, at the command's word or at SIGHUP to their parent; a stream under way is left alone."""
    with fake_vllm(["other"]) as second, gateway_command(tmp_path, vllm.url, workers=2) as (parent, url):
        key, file, cli = _key(tmp_path), tmp_path / "spiritsafe.toml", Cli(tmp_path / "spiritsafe.toml")
        vllm.play(*chat_stream("teacher", ["a"] * 20, pause_s=0.1))
        stream = openai.OpenAI(base_url=f"{url}/v1", api_key=key).chat.completions.create(
            model="teacher", messages=HI, stream=True
        )
        next(stream)
        file.write_text(SETTINGS.format(backends=json.dumps([second.url])))
        rows = cli.rows("config", "reload")
        assert [(row["worker"], row["changed"], row["error"]) for row in rows] == [
            ("w0", ["models.teacher"], None),
            ("w1", ["models.teacher"], None),
        ]
        assert [_ask_at(url, key, False).status_code for _ in range(6)] == [200] * 6
        assert (len(vllm.received), len(second.received)) == (1, 6)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "a" * 20
        file.write_text(SETTINGS.format(backends=json.dumps([vllm.url])) + "[record]\ntext = false\n")
        parent.send_signal(signal.SIGHUP)
        eventually(lambda: [found.number for found in reload.reports(tmp_path / "data")] == [2, 2])
        assert [found.restart for found in reload.reports(tmp_path / "data")] == [("record.text",)] * 2


def test_metrics_are_published(own_house: RunningGateway) -> None:
    """Within seconds the worker's registry is on disk, for the operator process to merge."""
    ask(own_house, own_house.key(), model="teacher")
    folder = own_house.settings.data_dir / "metrics"
    eventually(lambda: any("spiritsafe_requests" in path.read_text() for path in folder.glob("gateway-w0-*.json")))


def test_a_worker_without_its_spool_slot_says_so(tmp_path: Path, vllm: FakeVllm) -> None:
    """Two workers can't write one slot: the second is not ready and refuses, until the first is gone."""
    settings = settings_for(tmp_path, vllm.url)
    with running_gateway(settings) as second_holder:
        key = second_holder.key()
        with running_gateway(settings) as house:
            assert house.http.get("/ready").status_code == 503
            assert ask(house, key, model="teacher").status_code == 503


@pytest.mark.slow
def test_a_worker_is_light() -> None:
    """What only migrations, the lake and the detector need is not loaded: pyarrow alone takes 25 MB of every worker."""
    code = "import sys, gateway.app; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert "gateway.pipeline" in loaded
    assert {"alembic", "pyarrow", "pandas", "sklearn", "scipy", "deltalake"} & loaded == set()


def _requests_counted(folder: Path) -> float:
    samples = [sample for metric in metric_files.collect(folder / "data" / "metrics") for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name == "spiritsafe_requests_total")


def _await_count(folder: Path, wanted: float) -> None:
    eventually(lambda: _requests_counted(folder) == wanted, 10.0)


def _replace_a_worker(parent: int) -> None:
    victim = _children(parent)[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(_children(parent)) == 2 and victim not in _children(parent), 20.0)


@pytest.mark.slow
def test_every_request_is_counted_once_by_several_workers(tmp_path: Path, vllm: FakeVllm) -> None:
    """Two workers' figures are added up; one that is killed leaves what it had published, and its successor goes on."""
    with gateway_command(tmp_path, vllm.url) as (parent, url):
        key = _key(tmp_path)
        for wanted in (12.0, 24.0):
            assert all(_ask_at(url, key, number % 2 == 0).status_code == 200 for number in range(12))
            _await_count(tmp_path, wanted)
            _replace_a_worker(parent.pid)
            eventually(lambda: all(_answers(url) for _ in range(8)), 20.0)
            assert _requests_counted(tmp_path) == wanted


@pytest.mark.parametrize("help_url", ["", "https://wiki.example/models?a=1&b=2"])
def test_the_root_says_where_to_go(tmp_path: Path, help_url: str) -> None:
    """Without a key: what this is, every endpoint, where help is; HTML for people, which loads nothing, else JSON."""
    with fake_vllm() as vllm, running_gateway(settings_for(tmp_path, vllm.url, help_url=help_url)) as house:
        answer = house.http.get("/")
        assert answer.json().get("documentation", "") == help_url
        assert {"/v1/chat/completions", "/v1/embeddings", "/v1/models"} <= set(answer.json()["endpoints"])
        page = house.http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"] == "default-src 'none'"
        assert "<code>/v1/responses</code>" in page.text
        assert ("href" in page.text) == bool(help_url)
        assert "a=1&b" not in page.text
        assert house.http.post("/").status_code == 405
