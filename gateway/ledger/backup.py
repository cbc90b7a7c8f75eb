"""A copy of what can't be made again: the control plane and the secret that its keys were made with."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from gateway.ledger import keys
from gateway.ledger.database import Database
from gateway.ledger.errors import AlreadyExists, InvalidValue


def back_up(database: Database, data_dir: Path, target: Path) -> list[Path]:
    """Copy both into a new folder, readable by the owner alone, while the house runs; return the files.

    `SecretLost` where they do not belong together: that copy would be worth nothing.
    """
    url = sa.make_url(database.url)
    if url.get_backend_name() != "sqlite" or not url.database:
        raise InvalidValue(
            f"the control plane is {url.get_backend_name()}: back it up with its own tools, and copy {data_dir}/secret"
        )
    with database.read() as connection:
        secret = keys.ensure_secret(connection, data_dir)
    try:
        target.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise AlreadyExists(f"{target} exists already: name a new folder, so that no older backup is lost") from None
    copies = [target / "control.sqlite", target / "secret"]
    for path in copies:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    # SQLite's own backup sees one moment of a database that others write to; a copy of the file would not.
    with closing(sqlite3.connect(url.database)) as source, closing(sqlite3.connect(copies[0])) as copy:
        source.backup(copy)
    copies[1].write_bytes(secret)
    return copies
