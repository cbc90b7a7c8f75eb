"""Maintenance without a pause, for crash tests: every step again and again, and today put in order as well.

`python -m benchmarks.rig.maintainer DATA_DIRECTORY` prints a line for each round.
"""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.ledger.lake import Lake
from gateway.ledger.maintenance import maintain
from gateway.ledger.traffic import today
from gateway.settings import Settings


def main(data_dir: Path) -> None:
    """Work until killed."""
    settings, lake = Settings(data_dir=data_dir), Lake(data_dir / "lake" / "traffic")
    print("begun", flush=True)
    while True:
        steps = [report.files for report in maintain(settings)]
        print(steps, lake.order(today()), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
