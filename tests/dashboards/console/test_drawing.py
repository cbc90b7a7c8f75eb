"""Drawings as SVG."""

from __future__ import annotations

from datetime import date
from xml.etree import ElementTree

import pytest

from dashboards.console import drawing
from dashboards.console.drawing import Mark
from dashboards.console.figures import days_back

DAYS = days_back(14, date(2026, 11, 24))


@pytest.mark.parametrize(
    "svg",
    [
        drawing.sparkline([], "nothing"),
        drawing.sparkline([0, 3, 1], "three days", hot=True),
        drawing.curve(DAYS, [0] * 14, [], "nothing leaked"),
        drawing.curve(DAYS, list(range(14)), [Mark(DAYS[3], "alert"), Mark(DAYS[9], "suspended")], "growing"),
        drawing.comparison(0.94, None, 0.21, "unseen_share"),
        drawing.comparison(0, 0, 0, "requests"),
        drawing.margin_plot(-0.007, -0.019, 0.05, "within"),
        drawing.loss_curve([1, 2, 3], [2.9, 0.8, 0.3], "loss"),
        drawing.share_bar(1.4, "more than all"),
    ],
)
def test_every_drawing_is_well_formed_and_named(svg: str) -> None:
    """A drawing parses as XML, says in words what it shows, and holds no inline style, which the policy forbids."""
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert all("style" not in element.attrib for element in root.iter())


def test_labels_are_escaped() -> None:
    """A name that looks like markup stays a name."""
    svg = drawing.curve(DAYS, [1] * 14, [Mark(DAYS[0], "<script>")], '"><script>')
    assert "<script>" not in svg


def test_a_comparison_places_the_account_against_its_past_and_its_peers() -> None:
    """On one axis from zero, a value twice as large lies twice as far."""
    root = ElementTree.fromstring(drawing.comparison(0.8, 0.4, 0.2, "unseen_share"))
    places = {element.get("class"): element for element in root.iter()}
    dot, own, peers = (float(places[kind].attrib[at].rstrip("%")) - 1 for kind, at in PLACES)
    assert dot == pytest.approx(2 * own, abs=0.1)
    assert own == pytest.approx(2 * peers, abs=0.1)


PLACES = (("dot", "cx"), ("own", "x1"), ("peers", "x1"))


def test_a_days_bar_is_as_high_as_its_share_of_the_peak() -> None:
    """Zero is in view: half the tokens are half the height."""
    root = ElementTree.fromstring(drawing.curve(DAYS[:2], [50, 100], [], "two days"))
    heights = [float(element.attrib["height"]) for element in root.iter() if "bar" in element.get("class", "")]
    assert heights[0] == pytest.approx(heights[1] / 2, abs=0.1)
