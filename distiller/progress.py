"""A progress line with the time left: redrawn on a terminal, else a new line every few seconds; always on stderr."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TextIO

WIDTH = 30
EVERY_S = 5.0


@dataclass
class Progress:
    """Shows how far a task is. `label` says what runs; `stream` is stderr unless a test looks at it."""

    label: str
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _shown: float = -EVERY_S

    def show(self, step: int, steps: int, seconds_left: float, note: str = "") -> None:
        """Show that `step` of `steps` is done; the last step is always shown."""
        now = time.monotonic()
        live = self.stream.isatty()
        if not live and step < steps and now - self._shown < EVERY_S:
            return
        self._shown = now
        filled = WIDTH * step // max(steps, 1)
        line = f"{self.label} [{'#' * filled}{'.' * (WIDTH - filled)}] {step}/{steps}, {_clock(seconds_left)} left"
        line += f", {note}" if note else ""
        end = "\n" if not live or step >= steps else ""
        self.stream.write(f"\r\x1b[K{line}{end}" if live else line + end)
        self.stream.flush()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"
