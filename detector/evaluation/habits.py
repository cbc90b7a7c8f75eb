"""What an account's client software looks like: drawn the same way for everyone, so that it tells nobody's label."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

_USER_AGENTS = {
    "OpenAI/Python 2.8.1": 30, "OpenAI/Python 1.109.1": 18, "AsyncOpenAI/Python 2.8.1": 14, "OpenAI/JS 6.9.0": 14,
    "python-requests/2.32.5": 7, "langchain-openai/1.0.3": 5, "litellm/1.80.0": 4, "Go-http-client/2.0": 3,
    "axios/1.13.2": 3, "curl/8.14.1": 2,
}  # fmt: skip
_SYSTEMS = {
    16509: 24, 8075: 14, 396982: 14, 24940: 10, 14061: 8, 16276: 8, 3320: 6, 7922: 6, 20473: 5, 63949: 5,
}  # fmt: skip
GENERIC = ("You are a helpful assistant.", "You are a careful assistant.", "Answer helpfully.", "Be concise.")
_ROLES = (
    "the assistant of a reading club", "a guide of a technical museum", "the help desk of a regional railway",
    "a tutor of an evening school", "an editor of a village newspaper", "the front desk of a small hotel",
    "a planner in a market garden", "a clerk in a repair shop", "a coach for new volunteers", "a kitchen assistant",
    "a research assistant of a foundation", "the information desk of a public library",
)  # fmt: skip
_MANNERS = (
    "Answer from what you know and say so where you are unsure; keep to the question and use plain words.",
    "Write in full sentences, avoid lists unless somebody asks for one, and never invent names or numbers.",
    "Give the result first and the reason after it; where a question has two readings, answer the likelier one.",
    "Be friendly and brief; where something is dangerous or forbidden, say why and suggest what else would do.",
    "Explain each step that a beginner would trip over, and end with one sentence that sums it up.",
)


@dataclass(frozen=True)
class Habits:
    """Client software, network, parameters and system prompt of an account; groups share some of them."""

    client: dict[str, Any]
    parameters: dict[str, Any]
    system: str | None
    repeats: float  # share of requests that ask an earlier thing again
    failures: float
    examples: int  # worked examples that every plain question is preceded by


def draw_habits(rng: random.Random) -> Habits:
    """Draw an account's habits."""
    agent = _choice(rng, _USER_AGENTS)
    variant = rng.randrange(3)
    fingerprint = hashlib.blake2b(f"{agent} {variant}".encode(), digest_size=6).hexdigest()
    client = {"user_agent": agent, "network": network(rng), "asn": _choice(rng, _SYSTEMS), "fingerprint": fingerprint}
    examples = rng.choice((0, 0, 0, 1, 2))
    return Habits(client, _parameters(rng), system_prompt(rng), _repeats(rng), rng.uniform(0.0, 0.02), examples)


def network(rng: random.Random) -> str:
    """Return a network of the private range, as /24."""
    return f"10.{rng.randrange(256)}.{rng.randrange(256)}.0/24"


def system_prompt(rng: random.Random) -> str | None:
    """Draw a system prompt: none, one that every library sends, or one of an application."""
    dice = rng.random()
    if dice < 0.35:
        return None
    return rng.choice(GENERIC) if dice < 0.55 else application_prompt(rng)


def application_prompt(rng: random.Random) -> str:
    """Draw an application's system prompt."""
    return f"You are {rng.choice(_ROLES)}. {rng.choice(_MANNERS)}"


def _repeats(rng: random.Random) -> float:
    # Retries, scheduled jobs, the same thing asked twice to be sure: little for most, a lot for some.
    dice = rng.random()
    return 0.0 if dice < 0.35 else rng.uniform(0.0, 0.3) if dice < 0.75 else rng.uniform(0.3, 0.9)


def _parameters(rng: random.Random) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "temperature": rng.choice((None, None, 0.0, 0.2, 0.7, 0.7, 1.0)),
        "max_tokens": rng.choice((None, None, 256, 512, 1024, 2048)),
        "top_p": rng.choice((None, None, None, 0.95)),
        "stream": rng.choice((None, True)),
    }
    return {name: value for name, value in chosen.items() if value is not None}


def _choice(rng: random.Random, weights: dict[Any, int]) -> Any:
    return rng.choices(list(weights), list(weights.values()))[0]
