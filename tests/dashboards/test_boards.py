"""Grafana's boards: current, whole, and asking for what exists; that no panel is empty: tests/test_prometheus.py."""

from __future__ import annotations

import json
import re

import pytest

from dashboards.grafana import boards
from dashboards.grafana.panels import WIDTH, Board
from tests import metrics_table

BOARDS = pytest.mark.parametrize("board", boards.BOARDS, ids=lambda board: board.name)


@BOARDS
def test_the_file_is_what_the_code_makes(board: Board) -> None:
    """What Grafana is given is not edited by hand."""
    file = boards.FOLDER / f"{board.name}.json"
    assert file.read_text() == boards.render(board), "run `python -m dashboards.grafana.boards`"


def test_no_file_is_left_over() -> None:
    """A board that is gone is gone."""
    assert {file.stem for file in boards.FOLDER.glob("*.json")} == {board.name for board in boards.BOARDS}


@BOARDS
def test_panels_lie_side_by_side(board: Board) -> None:
    """No panel covers another, none reaches over the edge, each says what it is good for."""
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(boards.render(board))["panels"]:
        place = panel["gridPos"]
        cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= WIDTH
        assert panel["description"]
        taken |= cells


@BOARDS
def test_queries_name_metrics_that_exist(board: Board) -> None:
    """A metric that was renamed leaves no panel empty."""
    known = {series for row in metrics_table.rows() for series in row.series}
    for panel in board.panels:
        for query in panel.queries:
            names = set(re.findall(r"\b(?:spiritsafe_|gen_ai_(?:server|client)_)\w+", query.expression))
            assert names
            assert names <= known
