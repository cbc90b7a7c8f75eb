"""What the service keeps on the disk: everything it knows, and the version of the lake that it reaches up to.

The file is written beside its place and renamed, so that it is whole whatever is killed. It is worth nothing but time:
without it the lake is read again from its beginning. An erasure removes it for that reason.
"""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path

import numpy as np

from detector.book import Book
from detector.watch import Watch
from gateway.ledger import durable

logger = logging.getLogger(__name__)


def write(path: Path, watch: Watch, version: int) -> None:
    """Keep what the watch knows of the lake up to a version."""
    file = io.BytesIO()
    np.savez(
        file,
        version=np.int64(version),
        day=np.int64(watch.day),
        book=np.frombuffer(watch.book.to_bytes(), np.uint8),
        links=np.frombuffer(watch.linker.to_bytes(), np.uint8),
        charge=np.array(watch.model.id),
        shadow=np.frombuffer(b"" if watch.shadow is None else watch.shadow.to_bytes(), np.uint8),
    )
    durable.write(path, file.getvalue())


def resume(path: Path, watch: Watch) -> int:
    """Bring a new watch to where the checkpoint is and return its version; -1 where there is none to be used."""
    try:
        with np.load(path, allow_pickle=False) as found:
            version = int(found["version"])
            book = Book.from_bytes(found["book"].tobytes())
            links, shadow = found["links"].tobytes(), found["shadow"].tobytes()
            watch.resume(book, int(found["day"]), links, str(found["charge"]), shadow)
    except FileNotFoundError:
        return -1
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        logger.warning("the detector's checkpoint can't be used, the lake is read again", extra={"reason": str(error)})
        return -1
    return version
