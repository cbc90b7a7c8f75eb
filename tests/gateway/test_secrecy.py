"""No key, secret, password or token in anything that is written or answered, whatever happens to a request."""

from __future__ import annotations

import base64
import io
import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from gateway import operator
from gateway.ledger import keys, operators, secret
from gateway.ledger.ingester import Ingester
from gateway.ledger.lake import Lake
from gateway.logs import JsonFormatter
from gateway.protocol.head import Head
from gateway.records import complete
from tests.fakes import Drop, FakeVllm, chat_stream, error_response, stream_head
from tests.gateway.conftest import RunningGateway, eventually

HI: list[Any] = [{"role": "user", "content": "hi"}]
PASSWORD = "correct horse battery staple"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What every logger writes at its most talkative, as a process of the house would write it."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter("test"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def spellings(value: str | bytes) -> list[bytes]:
    """A credential raw, and a binary one also as people and programs print it."""
    if isinstance(value, str):
        return [value.encode(), base64.b64encode(value.encode()).rstrip(b"=")]
    encoded = [base64.b64encode(value), base64.urlsafe_b64encode(value)]
    return [value, value.hex().encode(), repr(value)[2:-1].encode(), *(text.rstrip(b"=") for text in encoded)]


def shown(answer: httpx.Response) -> bytes:
    """All of an answer that its reader sees."""
    return b"%r %r" % (dict(answer.headers), answer.content) + answer.content


def call(house: RunningGateway, key: str, **fields: Any) -> bytes:
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": "teacher", "messages": HI} | fields
    return shown(house.http.post("/v1/chat/completions", headers=headers, json=body))


def traffic(
    house: RunningGateway, vllm: FakeVllm, key: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> list[bytes]:
    """Send what succeeds, what is refused, what the backend spoils and what crashes here; return every answer."""
    answers = [call(house, key), call(house, key, stream=True), call(house, wrong), call(house, key, model="none")]
    answers.append(call(house, key, prompt_logprobs=1))
    answers.append(
        shown(house.http.post("/v1/chat/completions", headers={"authorization": f"Bearer {key}"}, content="{"))
    )
    answers.append(shown(house.http.get("/v1/models", headers={"authorization": f"Basic {wrong}"})))
    vllm.play(error_response(401, "who are you?"))
    vllm.play(stream_head(), Drop(reset=True))
    vllm.play(*chat_stream("teacher", ["a"])[:3], Drop())
    answers += [call(house, key), call(house, key, stream=True), call(house, key, stream=True)]

    def crash(head: Head, limit: int) -> None:
        raise RuntimeError(f"unexpected headers: {head.headers}")

    with monkeypatch.context() as patched:
        patched.setattr(Head, "check_form", crash)
        answers.append(call(house, key))
    assert b"internal_error" in answers[-1]
    return answers


def operating(house: RunningGateway, token: str, wrong: str) -> list[bytes]:
    """Use the operator process well and badly; return every answer but the one that shows a new key."""
    app = operator.create_app(house.settings, house.database)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    right, bad = ({"authorization": f"Bearer {value}"} for value in (token, wrong))
    answers = [client.get(f"/admin/v1/{path}", headers=right) for path in ("keys", "accounts", "audit", "health")]
    answers += [client.get("/admin/v1/keys", headers=bad), client.get("/metrics", headers=right)]
    answers.append(client.post("/admin/v1/keys", headers=right, json={"account": "nobody"}))
    for name, password in (("ada", PASSWORD), ("ada", wrong), (PASSWORD, "typed into the field above")):
        form = {"name": name, "password": password}
        answers.append(client.post("/login", data=form, headers={"origin": "http://127.0.0.1"}, follow_redirects=False))
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 401, 200, 404, 303, 401, 401]
    # The last is the form, filled in again for the one who filled it in.
    return [answer.content for answer in answers[:-1]]


def written(data_dir: Path) -> dict[str, bytes]:
    """Every file of the house but the secret itself, and the lake's rows, which are compressed in its files."""
    found = {}
    for path in data_dir.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # metrics come and go meanwhile
            found[str(path)] = path.read_bytes()
    del found[str(data_dir / "secret")]
    return found | {"lake": json.dumps(Lake(data_dir / "lake" / "traffic").read().to_pylist(), default=str).encode()}


def test_no_credential_is_written_or_answered(
    own_house: RunningGateway, own_vllm: FakeVllm, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Success, refusals, a broken backend, a crash with a traceback and debug logs: none quotes a credential."""
    house, wrong = own_house, keys.PREFIX + secrets.token_urlsafe(32)
    key = house.key()
    with house.database.write() as connection:
        pepper = secret.read(house.settings.data_dir)
        _, token = operators.create(connection, "ada", PASSWORD, "test")
        (row,) = keys.every(connection, "acme")
        _, successor = keys.rotate(connection, pepper, row.id, "test")
    house.synchronise()
    answers = traffic(house, own_vllm, key, wrong, monkeypatch)
    answers += [call(house, successor), *operating(house, token, wrong)]
    eventually(lambda: any((house.settings.data_dir / "metrics").glob("gateway-*.json")))
    ingester = Ingester(house.settings, complete)
    assert ingester.run_once() > 5
    ingester.close()

    places = written(house.settings.data_dir) | {"log": log.getvalue().encode()}
    places |= {f"answer {number}": answer for number, answer in enumerate(answers)}
    places["backend"] = repr([(got.headers, got.body) for got in own_vllm.received]).encode()
    assert {"control.sqlite", "log"} <= {Path(name).name for name in places}
    assert b"unexpected headers" in places["log"]
    assert b"Traceback" in places["log"]
    credentials: dict[str, str | bytes] = {"key": key, "successor": successor, "wrong": wrong, "secret": pepper}
    credentials |= {"password": PASSWORD, "token": token}
    found = [
        (name, place)
        for name, value in credentials.items()
        for place, content in places.items()
        if any(spelling in content for spelling in spellings(value))
    ]
    assert found == []


def test_the_search_would_find_them() -> None:
    """Each spelling that is looked for is one in which a credential could be written."""
    value = bytes(range(32))
    for text in (value, value.hex().encode(), str(value).encode(), base64.b64encode(value)):
        assert any(spelling in b"..." + text + b"..." for spelling in spellings(value))
    assert any(spelling in b'{"key": "sk-safe-x"}' for spelling in spellings("sk-safe-x"))
