"""Plots are well-formed SVG that says what was measured, whatever was."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np

from detector.evaluation.figures import Figure
from detector.evaluation.plots import bar_plot, calibration_plot, day_plot, leak_plot, precision_recall_plot

NAN = float("nan")


def test_plots_are_well_formed_even_where_nothing_was_measured() -> None:
    """Names are escaped; empty curves, unknown values and campaigns never noticed are drawn or left out."""
    curves = {"a < b": (np.array([0.5, 1.0]), np.array([1.0, 0.1])), "empty": (np.zeros(0), np.zeros(0))}
    leaks: dict[str, list[tuple[float, bool]]] = {"A1": [(10.0, True), (20_000.0, False)], "A2": []}
    rows = {"B1": (Figure(0.2, 0.1, 0.3), 10), "B4 undeclared": (Figure(NAN, NAN, NAN), 0)}
    drawn = [
        precision_recall_plot(curves),
        leak_plot(leaks, {"A1": "naive"}, 100.0),
        bar_plot(rows, {"B4": "approved & declared"}, 0.1),
    ]
    trees = [ElementTree.fromstring(svg) for svg in drawn]
    assert all(tree.tag.endswith("svg") for tree in trees)
    assert drawn[1].count('class="never"') == 1
    assert "n = 10" in drawn[2]


def test_days_and_calibration_are_drawn_where_they_are_known() -> None:
    """A figure without a value has no mark; without any there is an empty plot."""
    series = {"members found": {2: Figure(0.5, 0.4, 0.6), 5: Figure(NAN, NAN, NAN)}, "purity": {}}
    points = [(0.01, Figure(0.02, 0.01, 0.04), 40), (0.5, Figure(NAN, NAN, NAN), 0), (0.9, Figure(0.0, 0.0, 0.3), 3)]
    drawn = [day_plot(series), day_plot({}), calibration_plot(points), calibration_plot([])]
    assert all(ElementTree.fromstring(svg).tag.endswith("svg") for svg in drawn)
    assert "members found" in drawn[0]
    assert drawn[2].count("<circle") == 2
