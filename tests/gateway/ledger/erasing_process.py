"""Erases the account `app` of a data folder, for tests that kill it on its way."""

from __future__ import annotations

import sys
from pathlib import Path

from gateway.ledger import erasing
from gateway.ledger.database import open_database
from gateway.ledger.erasing import Surroundings
from gateway.ledger.errors import NotFound
from gateway.ledger.ingester import Ingester
from gateway.settings import Settings


def main(data_dir: Path, database_url: str) -> None:
    """Say that it begins, then erase; done already is done."""
    settings = Settings(data_dir=data_dir, database=database_url)
    database = open_database(settings.database_url)

    def bring_in() -> None:
        ingester = Ingester(settings, dict)
        ingester.run_once()
        ingester.close()

    print("begin", flush=True)
    try:
        erasing.erase(Surroundings(settings, database, bring_in, 0.0, 0.0), "app", "mara")
    except NotFound:
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
