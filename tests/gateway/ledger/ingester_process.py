"""An ingester for crash tests: ingests as fast as it can until it is killed.

python -m tests.gateway.ledger.ingester_process DATA_DIRECTORY
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from gateway.ledger.ingester import Ingester
from gateway.settings import Settings, SpoolSettings

if __name__ == "__main__":
    settings = Settings(data_dir=Path(sys.argv[1]), spool=SpoolSettings(ingest_interval_s=0.01))
    Ingester(settings, dict).run(threading.Event())
