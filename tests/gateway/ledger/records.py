"""Traffic records that the ledger's tests write, with every required field and whatever a test adds."""

from __future__ import annotations

from typing import Any


def record(identifier: str, **fields: Any) -> dict[str, Any]:
    """A finished request of the account `app`."""
    return {
        "id": identifier,
        "time": "2026-11-24T09:30:00.125Z",
        "account": "app",
        "endpoint": "chat.completions",
        "model": "teacher",
        "status": 200,
        "messages": [{"role": "user", "content": f"What is the answer to question {identifier}?"}],
    } | fields


def begun(identifier: str) -> dict[str, Any]:
    """What is written of a request before it is forwarded."""
    return {
        "id": identifier,
        "time": "2026-11-24T09:30:00.125Z",
        "account": "app",
        "endpoint": "chat.completions",
        "model_requested": "auto",
    }
