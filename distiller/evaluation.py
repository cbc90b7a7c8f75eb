"""Asks student and teacher the gate's requests, where they are served, and measures how fast both are.

Both are asked over HTTP by this module's own client, at temperature 0, with the output format that was logged. An
answer is right when, normalised, it is the known one. A request that no retry gets through ends the evaluation: a gate
decided on what happened to arrive would decide nothing.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from distiller.gate import Metric
from distiller.rows import Row
from gateway.ledger.errors import InvalidValue, LedgerError

ATTEMPTS = 4
TIMEOUT_S = 120.0
SPEED_TOKENS = 48
SPEED_REPEATS = 3
STREAMS = (1, 8)

Show = Callable[[int, int, float, str], None]


class EvaluationFailed(LedgerError):
    """A model could not be asked; the message says which and what to look at."""


@dataclass(frozen=True)
class Served:
    """A model where it is served: vLLM's base URL and the name it answers to."""

    url: str
    name: str


@dataclass(frozen=True)
class Answers:
    """Both models' answers to the same rows, in their order."""

    student: tuple[str, ...]
    teacher: tuple[str, ...]


@dataclass(frozen=True)
class Speed:
    """Output tokens per second, prompt processing included: medians by number of parallel streams."""

    student: dict[int, float]
    teacher: dict[int, float]

    def time_ratio(self, streams: int) -> float:
        """Return the student's time per token as a share of the teacher's."""
        return self.teacher[streams] / self.student[streams]


def read_answers(path: Path) -> dict[str, str]:
    """Read known answers, one `{"id": …, "answer": …}` per line, by request id; `InvalidValue` names a bad line."""
    answers: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, answer = entry["id"], entry["answer"]
        except (ValueError, KeyError, TypeError):
            name = answer = None
        if not isinstance(name, str) or not isinstance(answer, str):
            raise InvalidValue(f'{path}, line {number}: write {{"id": REQUEST_ID, "answer": TEXT}} on one line')
        if answers.setdefault(name, answer) != answer:
            raise InvalidValue(f"{path}, line {number}: {name} has two different answers; keep the right one")
    return answers


def normalised(answer: str) -> str:
    """Return an answer in which case, spacing, quotes and a final full stop make no difference; JSON by its value."""
    text = unicodedata.normalize("NFKC", answer).strip()
    if text[:1] in ("{", "["):
        try:
            return json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
        except ValueError:
            pass  # It only looks like JSON, so it is compared as text.
    return " ".join(text.strip("\"'`“”").rstrip(".!").casefold().split())


def right(answers: Sequence[str], known: Sequence[str]) -> list[bool]:
    """Return, answer by answer, whether it is the known one."""
    return [normalised(answer) == normalised(truth) for answer, truth in zip(answers, known, strict=True)]


def scores(answers: Sequence[str], known: Sequence[str], metric: Metric) -> list[float]:
    """Return each answer's score: 0 or 1 for `exact`, the F1 of its JSON fields for `fields`."""
    if metric == "exact":
        return [float(is_right) for is_right in right(answers, known)]
    return [field_f1(answer, truth) for answer, truth in zip(answers, known, strict=True)]


def field_f1(answer: str, known: str) -> float:
    """Return the F1 of a JSON answer's fields against the known ones: a field is right with its path and its value.

    An answer that is no JSON has none of them. `InvalidValue` where the known answer itself is none.
    """
    truth = _fields(known)
    if truth is None:
        raise InvalidValue(
            f"the known answer {known[:80]!r} is no JSON: the metric `fields` compares fields, use `exact`"
        )
    found = _fields(answer)
    if found is None:
        return 0.0
    if not truth and not found:
        return 1.0
    return 2 * (truth & found).total() / (truth.total() + found.total())


def _fields(text: str) -> Counter[tuple[str, str]] | None:
    """Return a JSON document's leaves, path and value each; the places in a list are no part of a path."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    found: Counter[tuple[str, str]] = Counter()
    waiting = [("", document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{path}.{name}", item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{path}[]", item) for item in value]
        else:
            found[path, normalised(value) if isinstance(value, str) else json.dumps(value)] += 1
    return found


async def ask_both(rows: Sequence[Row], student: Served, teacher: Served, concurrency: int, show: Show) -> Answers:
    """Ask both models every row's request, each with at most `concurrency` open; raises `EvaluationFailed`."""
    done, begin = 0, time.monotonic()

    def count() -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - begin) / done * (2 * len(rows) - done)
        show(done, 2 * len(rows), left, "")

    async def ask_all(model: Served) -> tuple[str, ...]:
        gate = asyncio.Semaphore(concurrency)

        async def ask(row: Row) -> str:
            async with gate:
                reply = await _post(session, model, _body(row, rows))
            count()
            return _content(reply)

        return tuple(await asyncio.gather(*map(ask, rows)))

    async with _session() as session:
        return Answers(*await asyncio.gather(ask_all(student), ask_all(teacher)))


async def ask_one(rows: Sequence[Row], model: Served, concurrency: int = 8) -> tuple[str, ...]:
    """Ask one model every row's request; returns its answers in their order, or raises `EvaluationFailed`."""
    gate = asyncio.Semaphore(concurrency)

    async def ask(row: Row) -> str:
        async with gate:
            return _content(await _post(session, model, _body(row, rows)))

    async with _session() as session:
        return tuple(await asyncio.gather(*map(ask, rows)))


async def measure_speed(rows: Sequence[Row], student: Served, teacher: Served) -> Speed:
    """Measure both models on the same prompts in turn, 1 and 8 at once, each time with prompts of their own."""
    rates: dict[tuple[Served, int], list[float]] = {}
    prompts = [row.request["messages"] for row in rows]
    async with _session() as session:
        for model in (student, teacher):
            await _burst(session, model, prompts[:1])
        for repeat in range(SPEED_REPEATS):
            for streams in STREAMS:
                start = 1 + (repeat * sum(STREAMS)) + (streams > 1)
                chosen = [prompts[(start + i) % len(prompts)] for i in range(streams)]
                # Turn about, so that a machine that gets busier or idler favours neither.
                for model in (teacher, student) if repeat % 2 else (student, teacher):
                    rates.setdefault((model, streams), []).append(await _burst(session, model, chosen))
    medians = [{n: statistics.median(rates[model, n]) for n in STREAMS} for model in (student, teacher)]
    return Speed(*medians)


def student_prices(teacher: tuple[int, int], speed: Speed) -> tuple[tuple[int, int], str]:
    """Return the student's nano-dollars per input and output token, and in words what they rest on."""
    streams = STREAMS[-1]
    ratio = speed.time_ratio(streams)
    prices = (max(1, round(teacher[0] * ratio)), max(1, round(teacher[1] * ratio)))
    basis = (
        f"the teacher's price × {ratio:.2f}, the measured ratio of time per token at {streams} parallel streams "
        f"({speed.student[streams]:.0f} against {speed.teacher[streams]:.0f} tokens/s)"
    )
    return prices, basis


def _content(reply: Mapping[str, Any]) -> str:
    return str(reply["choices"][0]["message"].get("content") or "")


def _body(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    body = {**row.request, "temperature": 0}
    if "max_tokens" not in body and "max_completion_tokens" not in body:
        # A student that never ends would otherwise fill its context, request after request.
        body["max_tokens"] = 16 + 2 * max(len(other.answer) for other in rows)
    return body


async def _burst(session: aiohttp.ClientSession, model: Served, prompts: Sequence[Any]) -> float:
    """Send the prompts at once, each for a fixed number of tokens; return output tokens per second of all together."""
    fixed = {"max_tokens": SPEED_TOKENS, "min_tokens": SPEED_TOKENS, "ignore_eos": True, "temperature": 0}
    begin = time.perf_counter()
    replies = await asyncio.gather(*(_post(session, model, {"messages": prompt, **fixed}) for prompt in prompts))
    seconds = time.perf_counter() - begin
    return sum(int(reply["usage"]["completion_tokens"]) for reply in replies) / seconds


def _session() -> aiohttp.ClientSession:
    # Proxies of the environment are not used: models are served on loopback or a private network.
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S), connector=aiohttp.TCPConnector(limit=0), trust_env=False
    )


async def _post(session: aiohttp.ClientSession, model: Served, body: Mapping[str, Any]) -> dict[str, Any]:
    url = f"{model.url.rstrip('/')}/v1/chat/completions"
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(0.5 * 2**attempt)
        try:
            async with session.post(url, json={**body, "model": model.name, "stream": False}) as response:
                if response.status == 200:
                    reply: dict[str, Any] = await response.json()
                    return reply
                problem = f"HTTP {response.status}: {(await response.text())[:300]}"
                if response.status < 500 and response.status != 429:
                    break  # Asking again would be answered the same.
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
    raise EvaluationFailed(
        f"{model.name} at {model.url} did not answer ({problem}): see that `spiritsafe up` serves it "
        "(`spiritsafe models list`) and look at its log in data_dir/logs; nothing was decided"
    )
