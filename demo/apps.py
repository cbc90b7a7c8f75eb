"""The demo's five applications, each on the stock `openai` client with only its base URL changed.

Every application keeps at most `OPEN_REQUESTS` requests open, and all of one phase run at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import openai

from demo import corpus, tickets

OPEN_REQUESTS = 8


@dataclass
class Tally:
    """What an application saw: answers, tokens, who answered and why, refusals, and its failures in words."""

    account: str
    answered: int = 0
    refused: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    models: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)  # request id, answer, known label ("": none)

    @property
    def requests(self) -> int:
        """Requests sent, answered or not."""
        return self.answered + self.refused + len(self.failures)

    @property
    def tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens


@asynccontextmanager
async def client_for(base_url: str, key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """Open the stock client with a key; all that an app developer changes is `base_url`."""
    client = openai.AsyncOpenAI(base_url=base_url, api_key=key, timeout=300)
    try:
        yield client
    finally:
        await client.close()


async def ask(client: openai.AsyncOpenAI, tally: Tally, label: str = "", **request: Any) -> str | None:
    """Send one request and count it; returns the answer's text, or None when it was refused or failed."""
    try:
        raw = await client.chat.completions.with_raw_response.create(**request)
    except openai.PermissionDeniedError:
        tally.refused += 1
        return None
    except openai.APIError as error:
        tally.failures.append(str(error))
        return None
    completion = raw.parse()
    text: str = completion.choices[0].message.content or ""
    tally.answered += 1
    tally.input_tokens += completion.usage.prompt_tokens
    tally.output_tokens += completion.usage.completion_tokens
    tally.models[raw.headers["x-spiritsafe-model"]] += 1
    tally.reasons[raw.headers["x-spiritsafe-route-reason"]] += 1
    tally.answers.append((raw.headers["x-request-id"], text, label))
    return text


async def chat_app(client: openai.AsyncOpenAI, tally: Tally, count: int, seed: int) -> None:
    """Hold `count` conversations of two or three turns, streamed to nobody's screen but in full."""

    async def hold(conversation: tuple[str, list[str]]) -> None:
        user, questions = conversation
        messages: list[dict[str, str]] = [{"role": "system", "content": corpus.CHAT_SYSTEM}]
        for question in questions:
            messages.append({"role": "user", "content": question})
            reply = await ask(client, tally, model="teacher", messages=messages, user=user, max_tokens=24)
            if reply is None:
                return
            messages.append({"role": "assistant", "content": reply})

    await _pool(hold, itertools.islice(corpus.conversations(seed), count))


async def rag_pipeline(client: openai.AsyncOpenAI, tally: Tally, count: int, seed: int) -> None:
    """Answer `count` questions from two pages of the handbook each."""

    async def answer(text: str) -> None:
        messages = _with_system(corpus.RAG_SYSTEM, text)
        await ask(client, tally, model="teacher", messages=messages, max_tokens=16)

    await _pool(answer, itertools.islice(corpus.retrievals(seed), count))


async def classification_job(
    client: openai.AsyncOpenAI, tally: Tally, drawn: Iterable[tickets.Ticket], *, store: bool = True
) -> None:
    """Sort tickets with `model: "auto"`, allowing the answers to be stored for training."""

    async def sort(ticket: tickets.Ticket) -> None:
        await ask(client, tally, ticket.label, **ticket_request(ticket.text), store=store)

    await _pool(sort, iter(drawn))


def ticket_request(text: str) -> dict[str, Any]:
    """Return the request that asks for a ticket's label, constrained to the labels."""
    return {
        "model": "auto",
        "messages": _with_system(tickets.SYSTEM_PROMPT, text),
        "temperature": 0,
        "max_tokens": 8,
        "extra_body": {"structured_outputs": {"choice": list(tickets.LABELS)}},
    }


async def evaluation_job(client: openai.AsyncOpenAI, tally: Tally, rounds: int) -> None:
    """Ask the same fixed items `rounds` times, as a regression test of a model does."""

    async def ask_item(item: str) -> None:
        messages = _with_system(corpus.EVALUATION_SYSTEM, item)
        await ask(client, tally, model="teacher", messages=messages, temperature=0, max_tokens=2)

    await _pool(ask_item, iter(corpus.evaluation_items() * rounds))


async def harvester(client: openai.AsyncOpenAI, tally: Tally, count: int, seed: int) -> None:
    """Walk through unrelated instructions, each once, until `count` are asked or the door is shut."""

    async def collect(instruction: str) -> None:
        if not tally.refused:
            messages = [{"role": "user", "content": instruction}]
            await ask(client, tally, model="teacher", messages=messages, temperature=1.0, max_tokens=64)

    await _pool(collect, itertools.islice(corpus.instructions(seed), count))


async def knock(base_url: str, key: str, times: int) -> Tally:
    """Send `times` requests, each on a connection of its own, so that they reach every worker."""
    tally = Tally("knock")
    for _ in range(times):
        async with client_for(base_url, key) as client:
            messages = [{"role": "user", "content": "Good morning."}]
            await ask(client, tally, model="teacher", messages=messages, max_tokens=1)
    return tally


def _with_system(system: str, text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


async def _pool(work: Callable[[Any], Awaitable[None]], jobs: Iterator[Any]) -> None:
    # The workers draw from one iterator, so none starts a job before another has finished its own.
    async def worker() -> None:
        for job in jobs:
            await work(job)

    await asyncio.gather(*(worker() for _ in range(OPEN_REQUESTS)))
