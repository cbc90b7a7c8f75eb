"""A small house for the distiller's tests: settings, control plane and a real lake of labelled tickets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.ledger import accounts, consents
from gateway.ledger.database import Database
from gateway.ledger.fingerprint import complete, task_skeleton
from gateway.ledger.identifiers import to_rfc3339
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import to_table
from gateway.settings import Settings, load_settings
from tests.control_plane import fresh
from tests.gateway.ledger.adequacy_tasks import TASKS, draws

BEGIN = datetime(2026, 11, 1, 8, tzinfo=UTC)
LABELS = ["money", "access", "outage", "other"]
SYSTEM = "Sort the hosting ticket: money, access, outage or other."
FORM = {"choice": LABELS}


class House:
    """A data folder whose account `shop` consented a day before the first row."""

    def __init__(self, folder: Path, teacher_urls: Sequence[str] = ("http://127.0.0.1:9",)) -> None:
        self.file = folder / "spiritsafe.toml"
        backends = ", ".join(f'"{url}"' for url in teacher_urls)
        self.file.write_text(
            'data_dir = "data"\n[[models]]\nname = "teacher"\nrole = "teacher"\n'
            f"backends = [{backends}]\ninput_price = 1.0\noutput_price = 3.0\n"
            'licence = "Apache-2.0"\ndistillable = true\n'
        )
        self.settings: Settings = load_settings(self.file, {})
        self.database: Database = fresh(self.settings.database_url)
        self.lake = Lake(self.settings.data_dir / "lake" / "traffic")
        with self.database.write() as connection:
            for name in ("shop", "other"):
                accounts.create(connection, accounts.Account(name, BEGIN - timedelta(days=9)), "test")
            consents.grant(connection, "shop", "test", time=BEGIN - timedelta(days=1))

    def log(self, records: Sequence[dict[str, Any]]) -> None:
        """Put records into the lake."""
        self.lake.append(to_table([complete(record) for record in records]))


def label(text: str) -> str:
    """Return the ticket's right answer, known by construction."""
    lowered = text.lower()
    for name, words in (
        ("money", ("charged", "cancel", "move")),
        ("access", ("log in", "certificate", "panel")),
        ("outage", ("has been", "failed", "slow")),
    ):
        if any(word in lowered for word in words):
            return name
    return "other"


def record(number: int, text: str, **changes: Any) -> dict[str, Any]:
    """Return the record of a live, stored, answered ticket; changes replace fields, None removes one."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    body = {"messages": messages, "structured_outputs": FORM}
    fields: dict[str, Any] = {
        "id": f"r{number:05d}",
        "time": to_rfc3339(BEGIN + timedelta(seconds=number)),
        "origin": "live",
        "account": "shop",
        "endpoint": "chat.completions",
        "model_requested": "auto",
        "model": "teacher",
        "model_role": "teacher",
        "messages": messages,
        "response": {"content": label(text), "choices": 1},
        "parameters": {"temperature": 0.3, "max_tokens": 8, "stream": True},
        "extra": {"structured_outputs": FORM},
        "status": 200,
        "finish_reason": "stop",
        "store": True,
        "fingerprint": {"skeleton": task_skeleton("chat.completions", body)},
    } | changes
    return {name: value for name, value in fields.items() if value is not None}


def tickets(count: int, seed: int = 1) -> list[str]:
    """Return different ticket texts."""
    texts = draws(TASKS["hosting tickets"], count, seed)
    random.Random(seed).shuffle(texts)
    return texts


def records(count: int, seed: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Return records of different tickets, a second apart."""
    return [record(number, text, **changes) for number, text in enumerate(tickets(count, seed))]
