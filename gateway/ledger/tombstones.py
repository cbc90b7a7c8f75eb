"""Tombstones: accounts that are being erased, in a file beside the lake that every reader and writer of it asks.

From the moment one stands nobody reads a row of the account and none is added, however long the removal takes. It goes
when nothing is left to hide. The control plane's `erasures` say who asked for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from gateway.ledger import durable

FILE = "tombstones.json"


def names(folder: Path) -> frozenset[str]:
    """Return the accounts that are being erased, as the file beside the lake says."""
    path = folder / FILE
    try:
        found = path.stat()
    except FileNotFoundError:
        return frozenset()
    return _read(path, found.st_ino, found.st_mtime_ns)


def put(folder: Path, account: str) -> None:
    """Hide an account; the caller holds the lake's lock, so that no append is under way."""
    _change(folder, lambda hidden: hidden | {account})


def lift(folder: Path, account: str) -> None:
    """Take the tombstone away; the caller holds the lake's lock."""
    _change(folder, lambda hidden: hidden - {account})


def _change(folder: Path, change: Callable[[frozenset[str]], frozenset[str]]) -> None:
    hidden = change(names(folder))
    if hidden:
        durable.write(folder / FILE, json.dumps(sorted(hidden)).encode())
    else:
        durable.remove(folder / FILE)


@lru_cache(maxsize=8)
def _read(path: Path, _inode: int, _modified: int) -> frozenset[str]:
    # The file is replaced, never changed, so inode and time name its content.
    return frozenset(json.loads(path.read_bytes()))
