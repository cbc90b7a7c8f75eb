"""Tells the person at the terminal what changes, one line each, without repeating what is still so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from gateway.ledger.house_status import ProcessStatus
from gateway.ledger.identifiers import now, to_rfc3339


class Narrator:
    """Writes plain lines with `say`; with `emit`, each change also goes out as a JSON document."""

    def __init__(self, say: Callable[[str], None], emit: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._emit = emit
        self._last: dict[str, ProcessStatus] = {}
        self._began: dict[str, ProcessStatus] = {}

    def opening(self, gateway: str, operator: str) -> None:
        """Say where the doors are."""
        self._line(f"endpoint {gateway}/v1, operators {operator}; Ctrl-C stops the house in good order")

    def closing(self) -> None:
        """Say that the end has begun."""
        self._line("stopping: the gateway finishes what is under way; Ctrl-C again ends everything at once")

    def changed(self, status: ProcessStatus) -> None:
        """Say what became of a process; a start that fails again for the same reason is not news."""
        last, self._last[status.name] = self._last.get(status.name), status
        if self._emit is not None:
            row = asdict(status) | {"since": to_rfc3339(status.since)}
            self._emit(json.dumps(row))
        if status.state == "starting":
            self._began[status.name] = status
        if last is not None and last.error is not None and last.error == status.error:
            return
        self._line(f"{status.name}: {self._words(status)}")

    def _words(self, status: ProcessStatus) -> str:
        if status.state == "starting":
            return f"starting (process {status.pid}, log {status.log})"
        if status.state == "ready":
            began = self._began.pop(status.name, None)
            place = f" at {status.url}" if status.url else ""
            after = f" after {(status.since - began.since).total_seconds():.1f} s" if began is not None else " again"
            return f"ready{place}{after}"
        if status.state == "waiting":
            return f"{(status.error or 'ended').rstrip('.')}. It is tried again after a pause."
        return "stopped" if status.state == "stopped" else "does not answer; it is started again if that lasts"

    def _line(self, text: str) -> None:
        self._say(f"{to_rfc3339(now())[11:19]} {text}")
