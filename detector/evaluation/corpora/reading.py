"""Reads compressed files of a data folder."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def text(file: Path) -> str:
    """Return a file's text, unpacked where its name ends in `.gz`; empty where it is absent."""
    if not file.exists():
        return ""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return content.decode("utf-8", "replace")


def json_of(file: Path, otherwise: Any) -> Any:
    """Return a JSON document; `otherwise` where the file is absent."""
    content = text(file)
    return json.loads(content) if content else otherwise


def json_lines(file: Path) -> Iterator[Any]:
    """Yield the objects of a JSON Lines file."""
    return (json.loads(line) for line in text(file).splitlines() if line.strip())


def csv_rows(file: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file with a header."""
    return csv.DictReader(io.StringIO(text(file)))
