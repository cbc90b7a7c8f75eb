"""The progress line, on a terminal and in a log."""

from __future__ import annotations

import io

from distiller.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_redrawn() -> None:
    """On a terminal the line is overwritten at every step and ended at the last."""
    stream = Terminal()
    progress = Progress("Training x", stream)
    for step in (1, 2, 3):
        progress.show(step, 3, 65.0 * (3 - step), "loss 0.5")
    text = stream.getvalue()
    assert (text.count("\r"), text.count("\n")) == (3, 1)
    assert "1/3, 2:10 left, loss 0.5" in text


def test_a_log_gets_a_line_now_and_then() -> None:
    """Elsewhere the first step is shown, then one every few seconds, and always the last."""
    stream = io.StringIO()
    progress = Progress("Training x", stream)
    for step in range(1, 101):
        progress.show(step, 100, 0.0)
    lines = stream.getvalue().splitlines()
    assert [line.split("] ")[1] for line in lines] == ["1/100, 0:00 left", "100/100, 0:00 left"]
