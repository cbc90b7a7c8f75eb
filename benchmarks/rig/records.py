"""Traffic records of 2 KB for the ledger's benchmark: English-like text, so that it packs as well as real text does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from gateway.ledger.fingerprint import embedding, minhash
from gateway.ledger.identifiers import to_rfc3339

ACCOUNTS = 1_000
_SYLLABLES = [
    "ba",
    "be",
    "di",
    "do",
    "fa",
    "ge",
    "ha",
    "in",
    "ka",
    "la",
    "le",
    "mi",
    "mo",
    "na",
    "ne",
    "on",
    "pa",
    "ra",
    "re",
    "sa",
    "si",
    "ta",
    "te",
    "ti",
    "un",
    "va",
    "we",
    "za",
]


class Records:
    """Makes records, each with texts of its own; the times of `total` of them are spread over the days before `end`."""

    def __init__(self, total: int, days: int = 10, end: datetime | None = None, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        self.end = end or datetime.now(UTC)
        self._step = timedelta(days=days) / total
        self._begin = self.end - timedelta(days=days)
        ends = np.cumsum(self._random.integers(1, 5, 20_000))
        syllables = self._random.choice(_SYLLABLES, int(ends[-1]))
        self._words = ["".join(part) for part in np.split(syllables, ends[:-1])]

    def text(self, size: int) -> str:
        """Return so many characters of words whose frequencies are Zipf's."""
        ranks = self._random.zipf(1.1, size // 4) % len(self._words)
        return " ".join([self._words[rank] for rank in ranks])[:size]

    def one(self, number: int, *, with_text: bool = True) -> dict[str, Any]:
        """Return the record of that number: 2 KB of JSON, with text, or with the fingerprint that stands for it."""
        record: dict[str, Any] = {
            "id": f"{number:08x}-0000-7000-8000-{number:012x}",
            "time": to_rfc3339(self._begin + number * self._step),
            "origin": "live",
            "account": f"account-{number * 7919 % ACCOUNTS:04d}",
            "key": f"key-{number * 7919 % ACCOUNTS:04d}",
            "endpoint": "chat.completions",
            "model_requested": "auto",
            "model": "teacher",
            "model_role": "teacher",
            "route": {"reason": "default", "adequacy": 0.5},
            "parameters": {"temperature": 0.2, "max_tokens": 128},
            "turns": 1,
            "usage": {"input_tokens": 200 + number % 90, "output_tokens": 100 + number % 31, "source": "exact"},
            "status": 200,
            "finish_reason": "stop",
            "latency_ms": 1000 + number % 977 / 7,
            "time_to_first_token_ms": 100 + number % 97 / 7,
            "overhead_ms": 0.5,
            "cost": 500_000 + number % 1009,
            "counterfactual_cost": 500_000 + number % 1009,
            "client": {"user_agent": "OpenAI/Python 2.45.0", "network": "203.0.113.0/24", "fingerprint": "9f2c4b1a"},
            "store": False,
        }
        if with_text:
            record["messages"] = [{"role": "user", "content": self.text(800)}]
            record["response"] = {"content": self.text(440), "choices": 1}
        else:
            text = self.text(400)
            prints = {"minhash": minhash(text).tolist(), "embedding": embedding(text).tolist()}
            record["fingerprint"] = {"skeleton": f"{number % 50:032x}", "conversation": f"{number:032x}"} | prints
        return record


def size_of(records: list[dict[str, Any]]) -> float:
    """Return the mean size of records as JSON, in bytes."""
    return sum(len(json.dumps(record, separators=(",", ":"))) for record in records) / len(records)
