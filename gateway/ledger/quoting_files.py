"""Files that may quote requests word for word, though nothing reads them again: logs, lines set aside, model cards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from gateway.ledger import durable
from gateway.ledger.scanning import Sought


def clean(data_dir: Path, sought: Sought) -> int:
    """Take lines that name the account or quote its texts out of all of them; return how many there were."""
    said = [*sought.names, *sought.texts]
    # A line that was set aside stands in a string of its file: JSON in JSON.
    quoted = [json.dumps(text.decode())[1:-1].encode() for text in said]
    lines = sum(_blank_lines(path, said) for path in sorted((data_dir / "logs").glob("*.log*")))
    with durable.turn(data_dir / "lake" / "import.lock"):
        lines += sum(_drop_lines(path, [*said, *quoted]) for path in sorted((data_dir / "rejected").glob("*.jsonl")))
    name = f"`{sought.account}`".encode()
    for card in sorted((data_dir / "students").glob("*/README.md")):
        lines += _replace(card, lambda line: line.replace(name, b"an erased account"))
    return lines


def _blank_lines(path: Path, said: list[bytes]) -> int:
    """Overwrite lines in place: a process may be appending to the file."""
    count = offset = 0
    with path.open("r+b") as file:
        for line in file.read().splitlines(keepends=True):
            if any(text in line for text in said):
                os.pwrite(file.fileno(), b"-" * len(line.rstrip(b"\r\n")), offset)
                count += 1
            offset += len(line)
        os.fsync(file.fileno())
    return count


def _drop_lines(path: Path, said: list[bytes]) -> int:
    return _replace(path, lambda line: b"" if any(text in line for text in said) else line)


def _replace(path: Path, changed: Callable[[bytes], bytes]) -> int:
    lines = path.read_bytes().splitlines(keepends=True)
    made = [changed(line) for line in lines]
    count = sum(before != after for before, after in zip(lines, made, strict=True))
    if count:
        durable.write(path, b"".join(made), path.stat().st_mode & 0o777)
    return count
