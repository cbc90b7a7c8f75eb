"""The ladder of steps as a running worker applies them: what the account sees, what is billed, what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway.ledger import accounts, declared_uses, enforcement, keys, limits, registry
from gateway.ledger.enforcement import Action, Step
from gateway.ledger.identifiers import now
from tests.fakes import FakeVllm, Received, Script, chat_answer, fake_vllm, text_answer
from tests.gateway.conftest import RunningGateway, eventually
from tests.gateway.test_routing import student

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
def fruit_vllm() -> Iterator[FakeVllm]:
    """A scripted vLLM that serves the student."""
    with fake_vllm(["fruit@1"]) as fake:
        yield fake


@pytest.fixture
def fruit(house: RunningGateway, fruit_vllm: FakeVllm, tmp_path: Path) -> Iterator[registry.Student]:
    """A promoted student, served; taken out again afterwards. It has no distance: nothing is adequate for it."""
    made = student(tmp_path / "none.npz", "candidate", url=fruit_vllm.url)
    with house.database.write() as connection:
        registry.add(connection, made, "test")
        registry.promote(connection, made.reference, "test")
    house.synchronise()
    yield made
    with house.database.write() as connection:
        connection.execute(registry.table.delete())
    house.synchronise()


@pytest.fixture
def key(house: RunningGateway, request: pytest.FixtureRequest) -> str:
    """A key of an account named as the test is."""
    return house.key(request.node.name[:100])


def take(house: RunningGateway, account: str, action: Action, **options: Any) -> str:
    """Take a step and return the decision's id, once the worker knows of it."""
    with house.database.write() as connection:
        step = Step(action, **options)
        decision = enforcement.take(connection, [account], step, "olga", "secret reason")[0].decision_id
    house.synchronise()
    return decision


def post(house: RunningGateway, key: str, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
    body = {"model": "teacher", "messages": HI} | fields
    return house.http.post(path, headers={"authorization": f"Bearer {key}"}, json=body)


def route(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["x-spiritsafe-model"], answer.headers["x-spiritsafe-route-reason"]


def test_a_watched_account_notices_nothing(house: RunningGateway, vllm: FakeVllm, key: str, request: Any) -> None:
    """The bytes that reach the backend and the headers of the answer are those of before; only a metric counts."""
    fields: dict[str, Any] = {"logprobs": True, "top_logprobs": 5, "n": 2}
    watched = _watched(house)
    before = post(house, key, **fields)
    take(house, request.node.name, "watch")
    after = post(house, key, **fields)
    assert vllm.received[0].body == vllm.received[1].body
    assert before.headers.keys() == after.headers.keys()
    assert before.content == after.content
    assert _watched(house) - watched == 1


def _watched(house: RunningGateway) -> float:
    name = "spiritsafe_enforced_requests_total"
    return house.worker.metrics.registry.get_sample_value(name, {"action": "watch"}) or 0.0


@pytest.mark.parametrize("stream", [False, True])
def test_a_stripped_account_gets_one_choice_without_log_probabilities(
    house: RunningGateway, vllm: FakeVllm, key: str, request: Any, stream: bool
) -> None:
    """The stock SDK reads a valid answer whose `logprobs` is null; the record keeps what was asked for."""
    take(house, request.node.name, "strip")
    asked: dict[str, Any] = {"logprobs": True, "top_logprobs": 5, "n": 8, "stream": stream}
    answer = house.client(key).chat.completions.create(model="teacher", messages=HI, **asked)
    choices = [part.choices for part in answer] if stream else [answer.choices]
    assert {choice.logprobs for part in choices for choice in part} == {None}
    body = vllm.received[0].body
    assert (body["logprobs"], body["top_logprobs"], body["n"]) == (None, None, 1)
    parameters = house.record()["parameters"]
    assert (parameters["logprobs"], parameters["top_logprobs"], parameters["n"]) == (True, 5, 8)


@pytest.mark.parametrize("count", [8, "8", 8.0, 0])
def test_no_form_of_a_number_escapes(
    house: RunningGateway, vllm: FakeVllm, key: str, request: Any, count: object
) -> None:
    """vLLM reads texts and fractions as numbers too, and completions take 0 as a wish for one log-probability."""
    take(house, request.node.name[:100], "strip")
    vllm.play(text_answer("teacher", "x"))
    scripted = {"prompt": "x", "messages": None, "n": count, "best_of": count, "logprobs": 0, "stream": False}
    assert post(house, key, "/v1/completions", **scripted).status_code == 200
    body = vllm.received[0].body
    assert (body["n"], body["best_of"], body["logprobs"]) == (1, 1, None)


def test_extensions_of_a_key_are_stripped_too(house: RunningGateway, vllm: FakeVllm, request: Any) -> None:
    """A key that may ask for the prompt's log-probabilities gets none while its account is stripped."""
    key = house.key(request.node.name, scope=keys.Scope(extensions=True))
    take(house, request.node.name, "strip")
    assert post(house, key, prompt_logprobs=3).status_code == 200
    assert vllm.received[0].body["prompt_logprobs"] is None


def test_responses_are_stripped(house: RunningGateway, vllm: FakeVllm, key: str, request: Any) -> None:
    """What is included of a response is included but for the log-probabilities."""
    take(house, request.node.name, "strip")
    included = ["message.output_text.logprobs", "reasoning.encrypted_content"]
    post(house, key, "/v1/responses", messages=None, input="hi", include=included, top_logprobs=4)
    body = vllm.received[0].body
    assert (body["include"], body["top_logprobs"]) == (["reasoning.encrypted_content"], None)


def test_named_models_are_diverted_where_the_contract_allows(
    house: RunningGateway, fruit: registry.Student, vllm: FakeVllm, key: str, request: Any
) -> None:
    """Else they answer as named. The student is named truthfully, in header, body and record, and its price billed."""
    name = request.node.name
    take(house, name, "divert")
    assert route(post(house, key)) == ("teacher", "pinned")
    assert route(post(house, key, model="auto")) == ("fruit@1", "policy")
    with house.database.write() as connection:
        accounts.set_divert_named(connection, name, True, "olga")
    house.synchronise()
    answer = post(house, key, logprobs=True)
    assert route(answer) == ("fruit@1", "policy")
    assert answer.json()["model"] == "fruit@1"
    record = house.record()
    assert (record["model_requested"], record["model"], record["route"]["reason"]) == ("teacher", "fruit@1", "policy")
    assert record["cost"] < record["counterfactual_cost"]
    assert int(answer.headers["x-spiritsafe-cost"]) == record["cost"]
    fruit_asked = post(house, key, model="fruit@1")
    assert route(fruit_asked) == ("fruit@1", "pinned")


def test_a_named_teacher_answers_while_no_student_can(
    house: RunningGateway, fruit: registry.Student, fruit_vllm: FakeVllm, key: str, request: Any
) -> None:
    """With its server gone the teacher answers, and says that it was named."""
    with house.database.write() as connection:
        accounts.set_divert_named(connection, request.node.name, True, "olga")
    take(house, request.node.name, "divert")
    fruit_vllm.stop()
    eventually(lambda: not any(pool.ready for name, pool in house.worker.catalogue.pools() if name == "fruit@1"))
    assert route(post(house, key)) == ("teacher", "pinned")


def _of(tokens: int) -> Any:
    def script(received: Received) -> Script:
        return (chat_answer("teacher", "x", {"prompt_tokens": 4, "completion_tokens": tokens, "total_tokens": 4}),)

    return script


def test_a_cap_bounds_the_teachers_tokens_of_a_day(
    house: RunningGateway, vllm: FakeVllm, key: str, request: Any
) -> None:
    """Spent is what was answered; a request whose longest answer does not fit is 429 with a text that names no step."""
    vllm.always(_of(30))
    take(house, request.node.name, "cap", tokens_per_day=100)
    assert [post(house, key, max_tokens=40).status_code for _ in range(2)] == [200, 200]
    refused = post(house, key, max_tokens=41)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert not any(word in refused.text for word in ("cap", "teacher", "secret"))
    assert post(house, key, max_tokens=40).status_code == 200
    assert post(house, key, max_tokens=11, n=8).status_code == 429
    assert post(house, key, max_tokens=10, n=8).status_code == 200  # one choice is all that a capped account gets
    assert house.record()["status"] == 200


def test_a_cap_and_limits_bind_together(house: RunningGateway, vllm: FakeVllm, key: str, request: Any) -> None:
    """What an account's own limits hold is given back when the cap refuses, and both are settled when it does not."""
    name = request.node.name
    vllm.always(_of(10))
    with house.database.write() as connection:
        limits.assign(connection, "account", name, {"parallel": 1, "rpm": 1000}, "olga")
    take(house, name, "cap", tokens_per_day=20)
    answers = [post(house, key, max_tokens=10) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == "1000"
    take(house, name, "watch")
    assert post(house, key).status_code == 200


def test_a_student_answers_beyond_the_cap(
    house: RunningGateway, fruit: registry.Student, key: str, request: Any
) -> None:
    """The cap is of the teacher's tokens: a student that is named goes on answering."""
    take(house, request.node.name, "cap", tokens_per_day=1)
    assert post(house, key, max_tokens=2).status_code == 429
    assert post(house, key, max_tokens=2, model="fruit@1").status_code == 200


def test_a_verification_is_announced_and_then_due(
    house: RunningGateway, vllm: FakeVllm, key: str, request: Any
) -> None:
    """Until its moment requests go on, stripped, with a notice; then 403 says how to answer, and an answer ends it."""
    name = request.node.name
    take(house, name, "verify", after=timedelta(hours=1))
    announced = post(house, key, n=2)
    assert announced.status_code == 200
    assert announced.headers["x-spiritsafe-notice"].startswith("declaration-needed; from=20")
    assert vllm.received[-1].body["n"] == 1
    take(house, name, "verify", after=timedelta())
    refused = post(house, key)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")
    assert "declared use" in refused.text
    assert not any(word in refused.text for word in ("verify", "secret", "suspect", "alert"))
    with house.database.write() as connection:
        declared_uses.declare(connection, name, "nightly evaluation", "olga", 500, now() + timedelta(days=30))
    house.synchronise()
    assert post(house, key).status_code == 200


def test_a_set_is_suspended_and_let_in_again_as_one(house: RunningGateway) -> None:
    """One decision refuses every member, in Anthropic's form as in OpenAI's; one undo lets all of them in again."""
    names = [f"member-{number}" for number in range(3)]
    members = [house.key(name) for name in names]
    with house.database.write() as connection:
        rows = enforcement.take(connection, names, Step("suspend"), "olga", "one operator behind all of them")
    house.synchronise()
    assert {post(house, key).status_code for key in members} == {403}
    with pytest.raises(openai.PermissionDeniedError, match="not permitted"):
        house.client(members[0]).chat.completions.create(model="teacher", messages=HI)
    messages = post(house, members[1], "/v1/messages", max_tokens=5)
    assert messages.json()["error"]["type"] == "permission_error"
    with house.database.write() as connection:
        enforcement.undo(connection, rows[0].decision_id, "olga", "a mistake")
    house.synchronise()
    assert {post(house, key).status_code for key in members} == {200}


def test_a_step_ends_at_its_moment(house: RunningGateway, key: str, request: Any) -> None:
    """No change of the control plane is needed for it: every request asks the clock."""
    take(house, request.node.name, "suspend", duration=timedelta(seconds=1))
    assert post(house, key).status_code == 403
    eventually(lambda: post(house, key).status_code == 200, 10.0)
