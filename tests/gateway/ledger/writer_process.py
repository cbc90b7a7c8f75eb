"""A worker for crash tests: begins and finishes requests for ever and prints each id once the spool has taken it.

python -m tests.gateway.ledger.writer_process SPOOL_DIRECTORY SLOT PREFIX
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from gateway.ledger.spool import SpoolWriter
from tests.gateway.ledger.records import begun, record


def main(directory: str, slot: str, prefix: str) -> None:
    """Keep two requests under way at any time; small segments, so that kills also hit rotations."""
    writer = SpoolWriter(Path(directory), slot, segment_bytes=20_000)
    number = 0
    writer.start(begun(f"{prefix}-0"))
    while True:
        number += 1
        writer.start(begun(f"{prefix}-{number}"))
        writer.final(record(f"{prefix}-{number - 1}"))
        # What a client would see of the answer's end: once this is out, the record must survive anything.
        os.write(1, f"{prefix}-{number - 1}\n".encode())
        time.sleep(0.004)


if __name__ == "__main__":
    main(*sys.argv[1:])
