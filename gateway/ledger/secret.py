"""The secret of an installation: 32 random bytes in `data_dir/secret`, readable by the owner alone (mode 0600).

It is the pepper of the keyed hashes under which API keys are stored, and it signs the console's sessions. Stored apart
from the control plane, so that a stolen database is no list of keys to try. `keys.ensure_secret` decides whether one
may be made; this module only reads and writes the file.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from gateway.ledger.errors import Forbidden, SecretLost
from gateway.ledger.identifiers import uuid7

SIZE = 32
REMEDY = (
    "restore it from the backup, or copy it from another machine of this installation; if it is lost for good, "
    "`spiritsafe keys revoke` every key and make new ones"
)


def path_of(data_dir: Path) -> Path:
    """Return where the secret lies."""
    return data_dir / "secret"


def read(data_dir: Path) -> bytes:
    """Return the secret; `SecretLost` when there is none or it has another length."""
    path = path_of(data_dir)
    try:
        secret = path.read_bytes()
    except FileNotFoundError:
        raise SecretLost(f"{path} is missing, without which no key is valid: {REMEDY}") from None
    if len(secret) != SIZE:
        raise SecretLost(f"{path} is no secret of {SIZE} bytes, without which no key is valid: {REMEDY}")
    return secret


def make(data_dir: Path) -> None:
    """Make the secret unless there is one already."""
    _write(data_dir, secrets.token_bytes(SIZE))


def place(data_dir: Path, secret: bytes) -> None:
    """Put a secret of a backup where there is none; `Forbidden` where there is another one."""
    _write(data_dir, secret)
    if read(data_dir) != secret:
        raise Forbidden(
            f"{path_of(data_dir)} is another secret than the backup's, which its keys need: stop the house and move it "
            "away first"
        )


def _write(data_dir: Path, secret: bytes) -> None:
    """Write the file unless there is one already."""
    data_dir.mkdir(parents=True, exist_ok=True)
    # Written whole and then linked: of processes that start together one wins, and no other reads half a secret.
    draft = data_dir / f".secret-{uuid7()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path_of(data_dir))
    except FileExistsError:
        pass  # Another process was first; its secret is the installation's.
    finally:
        draft.unlink()


def name_of(secret: bytes) -> str:
    """Return a name that tells secrets apart and says nothing about them (16 hexadecimal digits)."""
    return hashlib.blake2b(b"", key=secret, digest_size=8, person=b"secret's name").hexdigest()
