"""What an account's client software looks like: drawn the same way for everyone, so that it tells nobody's label."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from typing import Any

from detector.evaluation.phrasing import GENERIC, TOOL_NAMES, application_prompt, wrapping

_USER_AGENTS = {
    "OpenAI/Python 2.8.1": 24, "OpenAI/Python 1.109.1": 14, "AsyncOpenAI/Python 2.8.1": 12, "OpenAI/JS 6.9.0": 12,
    "OpenAI/Python 2.6.0": 6, "python-requests/2.32.5": 6, "langchain-openai/1.0.3": 5, "litellm/1.80.0": 5,
    "Go-http-client/2.0": 3, "axios/1.13.2": 3, "curl/8.14.1": 2, "OpenAI/JS 5.23.0": 3, "llama-index/0.14.8": 2,
    "Anthropic/Python 0.74.1": 3, "aiohttp/3.13.2": 3, "okhttp/5.3.0": 2, "node": 2, "ai-sdk/5.0.95": 3,
}  # fmt: skip
_SYSTEMS = {
    16509: 24, 8075: 14, 396982: 14, 24940: 10, 14061: 8, 16276: 8, 3320: 6, 7922: 6, 20473: 5, 63949: 5,
    31898: 4, 12876: 4, 13335: 3, 3352: 3, 5610: 3,
}  # fmt: skip
_ENDPOINTS = {"chat.completions": 78, "responses": 9, "messages": 8, "completions": 5}
_MODELS = {"teacher": 75, "teacher-large": 15, "teacher-mini": 10}
NEWEST = "teacher-2"
NEVER = float("inf")


@dataclass(frozen=True)
class Habits:
    """Client software, network, parameters and system prompt of an account; groups share some of them.

    `style` settles the wordings of its instructions, `networks` are others that it sends from, `later` is the client
    software from the day `changes` on, and `moves` the day on which it takes up the newest model.
    """

    client: dict[str, Any]
    parameters: dict[str, Any]
    system: str | None
    repeats: float  # share of requests that ask an earlier thing again
    failures: float
    examples: int  # worked examples that every plain question is preceded by
    style: int = 0
    wrap: str = "{}"
    tools: tuple[str, ...] = ()
    end_users: int = 0
    networks: tuple[str, ...] = ()
    later: dict[str, Any] | None = None
    changes: float = NEVER
    endpoint: str = "chat.completions"
    model: str = "teacher"
    moves: float = NEVER
    student_share: float = 0.0

    def clients(self, day: float) -> dict[str, Any]:
        """Return the client that a request of that day of the month comes from; a network is kept for hours."""
        client = self.later if self.later is not None and day >= self.changes else self.client
        place = int(day * 5) * 7919 % (2 * len(self.networks) + 1)
        return client if place >= len(self.networks) else {**client, "network": self.networks[place]}


@dataclass(frozen=True)
class Cohesion:
    """How likely members of a group are to share each thing: the same draw for campaigns and for ordinary groups."""

    software: float
    network: float
    provider: float
    template: float
    parameters: float
    payment: float
    signup: float
    content: float
    signup_days: float

    def joined(self, rng: random.Random, lead: Habits, own: Habits) -> Habits:
        """Return a member's habits: some of the lead's, some of its own."""
        client = dict(own.client)
        if rng.random() < self.software:
            client |= {name: lead.client[name] for name in ("user_agent", "fingerprint")}
        if rng.random() < self.network:
            client["network"] = rng.choice((lead.client["network"], *lead.networks))
        if rng.random() < self.provider:
            client["asn"] = lead.client["asn"]
        made = replace(own, client=client, later=None)
        if rng.random() < self.template:
            made = replace(made, system=lead.system, style=lead.style, wrap=lead.wrap, examples=lead.examples,
                           tools=lead.tools, endpoint=lead.endpoint, model=lead.model)  # fmt: skip
        if rng.random() < self.parameters:
            made = replace(made, parameters=lead.parameters)
        return made


def draw_cohesion(rng: random.Random) -> Cohesion:
    """Draw a group's cohesion: from hardly anything in common to everything."""
    return Cohesion(
        software=rng.betavariate(0.8, 0.6),
        network=rng.betavariate(0.8, 0.6),
        provider=rng.betavariate(0.8, 0.6),
        template=rng.betavariate(0.8, 0.6),
        parameters=rng.betavariate(0.8, 0.6),
        payment=rng.betavariate(0.4, 0.8),
        signup=rng.betavariate(0.8, 0.8),
        content=rng.betavariate(1.0, 0.6),
        signup_days=rng.choice((2.0, 2.0, 14.0, 90.0)),
    )


def draw_habits(rng: random.Random) -> Habits:
    """Draw an account's habits."""
    client = _client(rng)
    later = _client(rng) if rng.random() < 0.25 else None
    if later is not None and rng.random() < 0.6:
        later = {**client, "user_agent": later["user_agent"], "fingerprint": later["fingerprint"]}  # an upgrade
    return Habits(
        client=client,
        parameters=_parameters(rng),
        system=system_prompt(rng),
        repeats=_repeats(rng),
        failures=rng.uniform(0.0, 0.02) if rng.random() < 0.85 else rng.uniform(0.02, 0.2),
        examples=rng.choice((0, 0, 0, 0, 0, 1, 2, 4)),
        style=rng.getrandbits(40),
        wrap=wrapping(rng),
        tools=tuple(rng.sample(TOOL_NAMES, rng.randint(1, 6))) if rng.random() < 0.1 else (),
        end_users=round(rng.paretovariate(0.6)) % 400 if rng.random() < 0.25 else 0,
        networks=tuple(network(rng) for _ in range(rng.choice((0, 0, 0, 0, 1, 2, 3, rng.randint(4, 30))))),
        later=later,
        changes=rng.uniform(2, 27) if later else NEVER,
        endpoint=_choice(rng, _ENDPOINTS),
        model=_choice(rng, _MODELS),
        student_share=rng.uniform(0.05, 0.5) if rng.random() < 0.08 else 0.0,
    )


def of_another_use(rng: random.Random, habits: Habits) -> Habits:
    """Return the habits of another program of the same account: other prompts, mostly the same machine."""
    own = draw_habits(rng)
    shared = habits.client if rng.random() < 0.7 else {**own.client, "network": habits.client["network"]}
    return replace(own, client=shared, networks=habits.networks, later=None, moves=habits.moves)


def network(rng: random.Random) -> str:
    """Return a network of the private range, as /24."""
    return f"10.{rng.randrange(256)}.{rng.randrange(256)}.0/24"


def system_prompt(rng: random.Random) -> str | None:
    """Draw a system prompt: none, one that every library sends, or one of an application."""
    dice = rng.random()
    if dice < 0.35:
        return None
    return rng.choice(GENERIC) if dice < 0.55 else application_prompt(rng)


def _client(rng: random.Random) -> dict[str, Any]:
    agent = _choice(rng, _USER_AGENTS)
    variant = min(rng.randrange(12), rng.randrange(12))
    fingerprint = hashlib.blake2b(f"{agent} {variant}".encode(), digest_size=6).hexdigest()
    return {"user_agent": agent, "network": network(rng), "asn": _choice(rng, _SYSTEMS), "fingerprint": fingerprint}


def _repeats(rng: random.Random) -> float:
    # Retries, scheduled jobs, the same thing asked twice to be sure: little for most, a lot for some.
    dice = rng.random()
    return 0.0 if dice < 0.3 else rng.uniform(0.0, 0.08) if dice < 0.65 else rng.uniform(0.05, 0.6)


def _parameters(rng: random.Random) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "temperature": rng.choice((None, None, None, 0.0, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.7, 0.8, 0.9, 1.0, 1.0, 1.2)),
        "max_tokens": rng.choice((None, None, None, 128, 256, 300, 512, 800, 1000, 1024, 2048, 4096)),
        "top_p": rng.choice((None, None, None, None, 0.9, 0.95, 1.0)),
        "stream": rng.choice((None, True)),
        "seed": rng.choice((None,) * 11 + (rng.randrange(100), 42)),
        "response_format": {"type": "json_object"} if rng.random() < 0.08 else None,
        "logprobs": True if rng.random() < 0.015 else None,
        "stop": ["\n\n"] if rng.random() < 0.05 else None,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _choice(rng: random.Random, weights: dict[Any, int]) -> Any:
    return rng.choices(list(weights), list(weights.values()))[0]
