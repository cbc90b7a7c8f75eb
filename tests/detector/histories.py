"""Simulated account histories: ordinary accounts, look-alikes and harvesters, as traffic records of our own making.

Every kind is a function of a random generator and the times of its requests; `history` and `live` lay the times out.
The records carry only documented fields, and the same generator serves those who harvest and those who don't.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from gateway.ledger import fingerprint, traffic
from gateway.ledger.lake import Lake
from tests.detector.words import (
    DOMAINS,
    FINISHES,
    FOLLOW_UPS,
    MOODS,
    NAMES,
    PRODUCTS,
    QUESTIONS,
    STYLES,
    TASKS,
    TOPICS,
    TROUBLES,
)

Record = dict[str, Any]
Kind = Callable[[random.Random, str, Sequence[datetime]], list[Record]]
START = datetime(2026, 11, 2, tzinfo=UTC)
DAYS = 14
LIVE = START + timedelta(days=DAYS, hours=9)


def record(
    account: str,
    number: int,
    time: datetime,
    messages: list[dict[str, Any]],
    output: int,
    parameters: dict[str, Any] | None = None,
    **more: Any,
) -> Record:
    """Make one completed request to the teacher; input tokens are four characters each."""
    characters = sum(len(message["content"]) for message in messages)
    origin = "live" if time >= LIVE else "imported"
    return {
        "id": f"{account}-{time:%m%d%H%M%S}-{number}",
        "time": time,
        "origin": origin,
        "account": account,
        "endpoint": "chat.completions",
        "model_requested": "teacher",
        "model": "teacher",
        "model_role": "teacher",
        "messages": messages,
        "turns": sum(message["role"] == "user" for message in messages),
        "parameters": parameters or {},
        "usage": {"input_tokens": characters // 4 + 8, "output_tokens": output, "source": "exact"},
        "status": 200,
        "finish_reason": "stop",
        "cost": characters // 4 * 1000 + output * 3000,
        **more,
    }


def user(text: str) -> dict[str, Any]:
    """Make a user's message."""
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, Any]:
    """Make a system message."""
    return {"role": "system", "content": text}


def assistant(text: str) -> dict[str, Any]:
    """Make an answer of an earlier turn."""
    return {"role": "assistant", "content": text}


def filler(rng: random.Random, words: int) -> str:
    """Make running text of about that many words on one topic."""
    topic = rng.choice(TOPICS)
    parts: list[str] = []
    while len(parts) < words:
        sentence = (
            f"About {topic}, {rng.choice(NAMES)} wrote that {rng.choice(FINISHES)} matters in {rng.choice(TOPICS)}."
        )
        parts += sentence.split()
    return " ".join(parts[:words])


def history(rng: random.Random, per_day: int, days: int = DAYS, start: datetime = START) -> list[datetime]:
    """Lay out about `per_day` requests a day over working hours, weekends lighter."""
    times: list[datetime] = []
    for day in range(days):
        share = 0.3 if (start + timedelta(days=day)).weekday() >= 5 else 1.0
        for _ in range(max(1, round(per_day * share * rng.uniform(0.6, 1.4)))):
            times.append(start + timedelta(days=day, hours=7, seconds=rng.uniform(0, 12 * 3600)))
    return sorted(times)


def live(rng: random.Random, count: int, seconds: float = 300, start: datetime = LIVE) -> list[datetime]:
    """Lay `count` requests out evenly within a few minutes."""
    return sorted(start + timedelta(seconds=rng.uniform(0, seconds)) for _ in range(count))


def instruction(rng: random.Random) -> str:
    """Make one instruction of the self-instruct manner."""
    first, second = rng.sample(TOPICS, 2)
    return rng.choice(TASKS).format(a=first, b=second) + rng.choice(STYLES)


def instructions(rng: random.Random, count: int) -> list[str]:
    """Make distinct instructions."""
    made: dict[str, None] = {}
    while len(made) < count:
        made[instruction(rng)] = None
    return list(made)


# ordinary accounts and look-alikes


def chat_app(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Many end users' short conversations behind one system prompt, who return to a few topics."""
    rows: list[Record] = []
    head = system("You are Pip, the friendly helper of a reading club. Answer briefly.")
    talks: dict[int, list[dict[str, Any]]] = {}
    favourites = rng.sample(TOPICS, 12)
    for number, time in enumerate(times):
        person = rng.randrange(40)
        talk = talks.get(person)
        if talk is None or len(talk) > 8 or rng.random() < 0.2:
            talk = talks[person] = [head, user(rng.choice(QUESTIONS).format(a=rng.choice(favourites)))]
        else:
            talk += [assistant(filler(rng, 30)), user(rng.choice(FOLLOW_UPS).format(a=rng.choice(favourites)))]
        parameters = {"temperature": 0.7, "stream": True}
        rows.append(record(account, number, time, list(talk), rng.randint(20, 90), parameters, user=f"u{person}"))
    return rows


def rag(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Questions over context blocks that recur; short answers."""
    blocks = [filler(rng, 120) for _ in range(25)]
    head = system("Answer from the context only.")
    rows = []
    for number, time in enumerate(times):
        context = "\n\n".join(rng.sample(blocks, 3))
        question = rng.choice(QUESTIONS).format(a=rng.choice(TOPICS))
        message = user(f"Context:\n{context}\n\nQuestion: {question}")
        rows.append(record(account, number, time, [head, message], rng.randint(15, 60), {"temperature": 0.0}))
    return rows


def ticket(rng: random.Random) -> str:
    """Make one customer's ticket."""
    trouble = rng.choice(TROUBLES).format(n=rng.randrange(100_000))
    return f"{trouble}, {rng.choice(PRODUCTS)} in {rng.choice(FINISHES)} from {rng.choice(NAMES)}; {rng.choice(MOODS)}."


def classification(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """One system prompt, unique tickets, an answer of one label."""
    head = system("Sort the ticket into one of: delivery, billing, technical, account, other. Answer with the label.")
    parameters = {"temperature": 0.0, "max_tokens": 4, "response_format": {"type": "json_schema"}}
    return [
        record(account, number, time, [head, user(ticket(rng))], rng.randint(1, 3), parameters)
        for number, time in enumerate(times)
    ]


def evaluation(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """The same fixed items in the same order, over and over."""
    items = instructions(random.Random(account), 60)
    return [
        record(account, number, time, [user(items[number % len(items)])], rng.randint(40, 160), {"temperature": 0.0})
        for number, time in enumerate(times)
    ]


def ordinary_use(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """A small team's assistant: some conversations, the same few subjects again and again."""
    rows: list[Record] = []
    subjects = rng.sample(TOPICS, 6)
    talk: list[dict[str, Any]] = []
    for number, time in enumerate(times):
        if not talk or len(talk) > 6 or rng.random() < 0.45:
            first, second = rng.sample(subjects, 2)
            talk = [user(rng.choice(TASKS[:14]).format(a=first, b=second))]
        else:
            talk = [*talk, assistant(filler(rng, 40)), user(rng.choice(FOLLOW_UPS).format(a=rng.choice(subjects)))]
        rows.append(record(account, number, time, talk, rng.randint(30, 200), {"temperature": 0.7}))
    return rows


def heavy_chat(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """One person without a system prompt: many topics, edits of the last question, follow-ups, returns."""
    rows: list[Record] = []
    talk: list[dict[str, Any]] = []
    for number, time in enumerate(times):
        dice = rng.random()
        if not talk or dice < 0.35:
            talk = [user(instruction(rng))]
        elif dice < 0.5:
            talk = [*talk[:-1], user(talk[-1]["content"] + rng.choice(STYLES))]
        else:
            talk = [*talk[-6:], assistant(filler(rng, 60)), user(rng.choice(FOLLOW_UPS).format(a=rng.choice(TOPICS)))]
        rows.append(record(account, number, time, talk, rng.randint(60, 300), {"stream": True}))
    return rows


def translation(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """A pipeline whose answers are as long as the unique texts it sends."""
    head = system("Translate the user's text into German. Keep names as they are.")
    rows = []
    for number, time in enumerate(times):
        text = filler(rng, rng.randint(40, 120))
        rows.append(record(account, number, time, [head, user(text)], len(text) // 4 + 10, {"temperature": 0.2}))
    return rows


def content_generator(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """One template, many products, long answers."""
    head = system("You write product texts for a shop. Friendly, concrete, no superlatives.")
    rows = []
    for number, time in enumerate(times):
        product = f"{rng.choice(NAMES)} {rng.choice(PRODUCTS)} made of {rng.choice(FINISHES)}"
        text = f"Write a product description for: {product}, no. {rng.randrange(10_000)}. Mention material, use, care."
        rows.append(record(account, number, time, [head, user(text)], rng.randint(120, 240), {"temperature": 0.9}))
    return rows


def support_bot(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Many customers behind one key and one system prompt, a few turns each."""
    head = system("You are the support desk of a furniture shop. Ask for the order number, then help.")
    rows = []
    talks: dict[int, list[dict[str, Any]]] = {}
    for number, time in enumerate(times):
        person = rng.randrange(200)
        talk = talks.get(person, [])
        if talk and len(talk) < 8 and rng.random() < 0.6:
            talk = [*talk, assistant(filler(rng, 30)), user(rng.choice(FOLLOW_UPS).format(a=rng.choice(PRODUCTS)))]
        else:
            talk = [head, user(ticket(rng))]
        talks[person] = talk
        rows.append(record(account, number, time, talk, rng.randint(40, 120), {"temperature": 0.3}))
    return rows


def agentic_coding(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Long trajectories with tools that are answered and a growing prefix."""
    head = system("You are a coding agent. Use the tools to change the repository, then explain.")
    rows = []
    talk: list[dict[str, Any]] = []
    for number, time in enumerate(times):
        if not talk or len(talk) > 30:
            talk = [
                head,
                user(f"Fix the failing test of {rng.choice(DOMAINS['programming'])} in module {rng.choice(NAMES)}."),
            ]
        else:
            result = {"role": "tool", "tool_call_id": f"c{number}", "content": filler(rng, 150)}
            talk = [*talk, assistant("Reading the file."), result]
        tools = ["read_file", "write_file", "run_tests"]
        rows.append(record(account, number, time, talk, rng.randint(40, 250), {"temperature": 0.2}, tools=tools))
    return rows


def load_test(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """One prompt, again and again."""
    message = user("Write a haiku about the sea and explain it in two sentences.")
    return [record(account, number, time, [message], rng.randint(90, 110)) for number, time in enumerate(times)]


# those who harvest


def bulk(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Unrelated instructions, each asked once, flat parameters, no system prompt (A1, A2, A8)."""
    parameters = {"temperature": 1.0, "max_tokens": 256}
    texts = instructions(rng, len(times))
    return [
        record(account, number, time, [user(text)], rng.randint(60, 256), parameters)
        for number, (time, text) in enumerate(zip(times, texts, strict=True))
    ]


def bulk_short(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """As `bulk`, from a small teacher whose answers end at 64 tokens."""
    rows = bulk(rng, account, times)
    for row in rows:
        row["usage"]["output_tokens"] = rng.randint(30, 64)
    return rows


def bulk_with_system_prompt(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """As `bulk`, behind the system prompt that every library sends."""
    head = system("You are a helpful assistant.")
    rows = bulk(rng, account, times)
    return [{**row, "messages": [head, *row["messages"]]} for row in rows]


def best_of_n(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """A few prompts sampled over and over with changing seeds (A6)."""
    texts = instructions(rng, max(1, len(times) // 64))
    return [
        record(
            account, i, time, [user(texts[i // 64 % len(texts)])], rng.randint(80, 200), {"temperature": 1.0, "seed": i}
        )
        for i, time in enumerate(times)
    ]


def many_choices(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Sixteen choices a call (A6)."""
    texts = instructions(rng, len(times))
    parameters = {"temperature": 1.0, "n": 16}
    return [record(account, i, t, [user(texts[i])], 16 * rng.randint(40, 90), parameters) for i, t in enumerate(times)]


def logprobs(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Twenty log-probabilities a token on every call, of texts in one style (A7)."""
    head = system("Continue the text.")
    parameters = {"temperature": 1.0, "logprobs": True, "top_logprobs": 20, "max_tokens": 32}
    return [
        record(account, i, time, [head, user(filler(rng, 60))], rng.randint(20, 32), parameters)
        for i, time in enumerate(times)
    ]


def grader(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """One rubric over unrelated answers that never recur, tiny scores (A5)."""
    head = system("Grade the answer by the rubric: accuracy, depth, style. Reply with a score from 1 to 10 as JSON.")
    parameters = {"temperature": 0.0, "response_format": {"type": "json_object"}}
    rows = []
    for i, time in enumerate(times):
        text = f"Question: {instruction(rng)}\nAnswer: {filler(rng, 60)}\nScore:"
        rows.append(record(account, i, time, [head, user(text)], rng.randint(8, 14), parameters))
    return rows


def chain_of_thought(rng: random.Random, account: str, times: Sequence[datetime]) -> list[Record]:
    """Arithmetic questions whose working is asked for (A4)."""
    rows = []
    for i, time in enumerate(times):
        name, other = rng.sample(NAMES, 2)
        text = (
            f"{name} has {rng.randint(3, 90)} {rng.choice(PRODUCTS)}s for {rng.choice(TOPICS)} and gives {other} "
            f"{rng.randint(1, 9)} of them each {rng.choice(['day', 'week'])}; {rng.choice(FINISHES)} ones cost "
            f"{rng.randint(2, 40)} crowns. What is left after {rng.randint(2, 9)}? Think step by step."
        )
        rows.append(record(account, i, time, [user(text)], rng.randint(120, 300), {"temperature": 0.7}))
    return rows


def scene(seed: int = 0) -> list[Record]:
    """The demo's five accounts: fourteen days of modest history each, then all live within five minutes."""
    rng = random.Random(seed)
    nights = [START + timedelta(days=d, hours=2, seconds=4 * i) for d in range(DAYS) for i in range(60)]
    tests = [START + timedelta(days=d, hours=4, seconds=3 * i) for d in range(DAYS) for i in range(60)]
    rows = [
        *chat_app(rng, "chat", [*history(rng, 30), *live(rng, 200)]),
        *rag(rng, "rag", [*history(rng, 30), *live(rng, 150)]),
        *classification(rng, "tickets", [*nights, *live(rng, 1000)]),
        *evaluation(rng, "evaluation", [*tests, *live(rng, 720)]),
        *ordinary_use(rng, "harvester", history(rng, 30)),
        *bulk_short(rng, "harvester", live(rng, 350)),
    ]
    return in_order(rows)


def in_order(rows: Iterable[Record]) -> list[Record]:
    """Sort records as they happened."""
    return sorted(rows, key=lambda row: (row["time"], row["id"]))


ORDINARY: dict[str, Kind] = {
    "chat_app": chat_app,
    "rag": rag,
    "classification": classification,
    "evaluation": evaluation,
    "ordinary_use": ordinary_use,
    "heavy_chat": heavy_chat,
    "translation": translation,
    "content_generator": content_generator,
    "support_bot": support_bot,
    "agentic_coding": agentic_coding,
    "load_test": load_test,
}
HARVESTING: dict[str, Kind] = {
    "bulk": bulk,
    "bulk_short": bulk_short,
    "bulk_with_system_prompt": bulk_with_system_prompt,
    "best_of_n": best_of_n,
    "many_choices": many_choices,
    "logprobs": logprobs,
    "grader": grader,
    "chain_of_thought": chain_of_thought,
}


def to_table(rows: Iterable[Record]) -> pa.Table:
    """Turn records into rows of the lake, fingerprints included, as the ingester does."""
    written = ({**row, "time": row["time"].isoformat(timespec="milliseconds")} for row in rows)
    return traffic.to_table([fingerprint.complete(row) for row in written])


def without_text(row: Record) -> Record:
    """Take the text out of a record and leave its fingerprint, as where no text is kept."""
    complete = fingerprint.complete({**row, "time": row["time"].isoformat(timespec="milliseconds")})
    return {name: value for name, value in {**complete, "time": row["time"]}.items() if name != "messages"}


def fill_lake(path: Path, rows: Iterable[Record]) -> Lake:
    """Append records to the lake at a path."""
    lake = Lake(path)
    lake.append(to_table(rows))
    return lake
