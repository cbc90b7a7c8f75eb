"""Fourteen days of traffic per account, as they would come from elsewhere: JSON Lines of the traffic record.

The records carry prompts, parameters, usage and clients, and no answers: the texts are the demo's own, the token counts
are counted by words, and every row says so (`usage.source: "estimated"`).
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from demo import corpus, tickets

DAYS = 14
DRAFT_RECEIVERS = ["the landlord", "our supplier", "a new colleague", "the school office", "my sister", "the bank"]
DRAFT_SUBJECTS = ["the broken heater", "next week's delivery", "the shared calendar", "the field trip", "her birthday"]


@dataclass(frozen=True)
class Profile:
    """How an account's ordinary day looks: requests a day, the hours they fall in, its client, and its prompts."""

    account: str
    per_day: int
    hours: tuple[int, int]
    user_agent: str
    network: str
    parameters: dict[str, Any]
    output_tokens: tuple[int, int]


PROFILES = (
    Profile("kettle-chat", 40, (7, 23), "OpenAI/JS 6.9.0", "198.51.100.0/24", {"max_tokens": 32}, (14, 32)),
    Profile("harbour-rag", 60, (8, 18), "AsyncOpenAI/Python 3.54.0", "198.51.100.0/24", {"max_tokens": 24}, (8, 20)),
    Profile("nightly-tickets", 150, (1, 3), "AsyncOpenAI/Python 3.54.0", "203.0.113.0/24", {"temperature": 0}, (1, 2)),
    Profile("model-evals", 100, (3, 5), "AsyncOpenAI/Python 3.54.0", "203.0.113.0/24", {"temperature": 0}, (1, 3)),
    Profile("quillworks", 15, (9, 21), "AsyncOpenAI/Python 3.54.0", "192.0.2.0/24", {"max_tokens": 64}, (20, 60)),
)


def write_history(path: Path, seed: int = 14, until: datetime | None = None) -> int:
    """Write all accounts' records to a JSON Lines file, oldest first per account; returns the number of rows."""
    end = (until or datetime.now(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = 0
    with path.open("w") as file:
        for profile in PROFILES:
            for record in _records(profile, seed, end - timedelta(days=DAYS)):
                file.write(json.dumps(record) + "\n")
                rows += 1
    return rows


def _records(profile: Profile, seed: int, start: datetime) -> Iterator[dict[str, Any]]:
    draw = random.Random(f"{profile.account}-{seed}")
    prompts = _prompts(profile.account, seed)
    number = 0
    for day in range(DAYS):
        count = max(1, round(profile.per_day * draw.uniform(0.7, 1.3)))
        first, last = (start + timedelta(days=day, hours=hour) for hour in profile.hours)
        for moment in sorted(first + (last - first) * draw.random() for _ in range(count)):
            number += 1
            user, messages = next(prompts)
            yield _record(profile, draw, f"history-{profile.account}-{number}", moment, user, messages)


def _record(
    profile: Profile, draw: random.Random, name: str, moment: datetime, user: str | None, messages: list[dict[str, str]]
) -> dict[str, Any]:
    words = sum(len(message["content"].split()) for message in messages)
    record: dict[str, Any] = {
        "id": name,
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "origin": "imported",
        "account": profile.account,
        "endpoint": "chat.completions",
        "model_requested": "teacher",
        "model": "teacher",
        "model_role": "teacher",
        "messages": messages,
        "parameters": profile.parameters,
        "turns": sum(message["role"] == "user" for message in messages),
        "usage": {
            "input_tokens": round(words * 1.4) + 8,
            "output_tokens": draw.randint(*profile.output_tokens),
            "source": "estimated",
        },
        "status": 200,
        "finish_reason": "stop",
        "latency_ms": round(draw.uniform(150, 900), 1),
        "client": {"user_agent": profile.user_agent, "network": profile.network},
    }
    return record | ({} if user is None else {"user": user})


def _prompts(account: str, seed: int) -> Iterator[tuple[str | None, list[dict[str, str]]]]:
    if account == "kettle-chat":
        return _chats(seed)
    if account == "harbour-rag":
        return ((None, _with_system(corpus.RAG_SYSTEM, text)) for text in corpus.retrievals(seed))
    if account == "nightly-tickets":
        drawn = tickets.tickets(seed, 150 * DAYS * 2)
        return ((None, _with_system(tickets.SYSTEM_PROMPT, ticket.text)) for ticket in itertools.cycle(drawn))
    if account == "model-evals":
        items = itertools.cycle(corpus.evaluation_items())
        return ((None, _with_system(corpus.EVALUATION_SYSTEM, item)) for item in items)
    return _drafts(seed)


def _with_system(system: str, text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def _chats(seed: int) -> Iterator[tuple[str | None, list[dict[str, str]]]]:
    for user, questions in corpus.conversations(seed):
        messages = [{"role": "system", "content": corpus.CHAT_SYSTEM}]
        for question in questions:
            messages = [*messages, {"role": "user", "content": question}]
            yield user, messages
            messages = [*messages, {"role": "assistant", "content": "Try it a little slower and taste as you go."}]


def _drafts(seed: int) -> Iterator[tuple[str | None, list[dict[str, str]]]]:
    draw = random.Random(seed)
    while True:
        receiver, subject = draw.choice(DRAFT_RECEIVERS), draw.choice(DRAFT_SUBJECTS)
        yield None, [{"role": "user", "content": f"Write a short, polite note to {receiver} about {subject}."}]
