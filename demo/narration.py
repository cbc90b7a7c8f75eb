"""What the demo prints: a heading, plain sentences, and the time of each step."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

WIDTH = 100


def say(text: str) -> None:
    """Print a paragraph, wrapped."""
    print(textwrap.fill(" ".join(text.split()), WIDTH, initial_indent="  ", subsequent_indent="  "), flush=True)


@contextmanager
def step(number: int, total: int, title: str) -> Iterator[None]:
    """Print a step's heading before it and its seconds after it."""
    print(f"\n[{number}/{total}] {title}", flush=True)
    began = time.monotonic()
    yield
    print(f"  … done in {time.monotonic() - began:.0f} s", flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: first column left-aligned, the others right-aligned."""
    cells = [list(columns)] + [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        first, *rest = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  " + "  ".join([first, *rest]), flush=True)


def update(text: str) -> None:
    """Show a count that moves: in place on a terminal, else as a line."""
    print(
        f"\r  {text:<{WIDTH}}" if sys.stdout.isatty() else f"  {text}",
        end="" if sys.stdout.isatty() else "\n",
        flush=True,
    )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 1 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
