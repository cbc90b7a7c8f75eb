"""The boards of a house; `python -m dashboards.grafana.boards` writes their JSON beside this file."""

from __future__ import annotations

import json
from pathlib import Path

from dashboards.grafana.money import COST, DISTILLER
from dashboards.grafana.panels import Board, document
from dashboards.grafana.serving import FLEET, SERVICE
from dashboards.grafana.watching import HARVESTING, LEDGER

FOLDER = Path(__file__).parent

BOARDS = (SERVICE, FLEET, COST, HARVESTING, LEDGER, DISTILLER)


def render(board: Board) -> str:
    """Return the board's file."""
    return json.dumps(document(board), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for board in BOARDS:
        (FOLDER / f"{board.name}.json").write_text(render(board))
