"""Plots as inline SVG, without a library: lines, points on a logarithmic axis, and bars with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from detector.evaluation.figures import Figure, Floats

WIDTH, HEIGHT = 720, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 170, 16, 44
COLOURS = ("#0b6e4f", "#c8553d", "#3d5a98", "#b58900", "#7a4d9f", "#2a9d8f", "#8a8a8a", "#d17fa0", "#5c4a3d")


def precision_recall_plot(curves: Mapping[str, tuple[Floats, Floats]]) -> str:
    """Draw precision over recall, a line each; names in a legend, the first one bold."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [*_grid(_shares(), _shares()), _text((LEFT + right) / 2, HEIGHT - 8, "recall"), _upright("precision")]
    for number, (name, (recall, precision)) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(
            f"{LEFT + x * (right - LEFT):.1f},{bottom - y * (bottom - TOP):.1f}"
            for x, y in _steps(_thinned(recall.tolist(), precision.tolist()))
        )
        width = 3 if number == 0 else 1.5
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="0.9">'
            f"<title>{escape(name)}</title></polyline>"
        )
        parts += _legend(number, name, colour)
    return _svg(parts, HEIGHT, "Precision and recall")


def leak_plot(leaks: Mapping[str, Sequence[tuple[float, bool]]], names: Mapping[str, str], goal: float) -> str:
    """Draw what each campaign got before the first alert, a point each on a logarithmic axis, a row a strategy."""
    row, left, right = 24, 215, WIDTH - 20
    height = TOP + row * len(leaks) + BOTTOM
    most = max((value for points in leaks.values() for value, _ in points), default=1.0)
    decades = max(1, math.ceil(math.log10(max(most, 10.0))))

    def place(value: float) -> float:
        return left + math.log10(max(value, 1.0)) / decades * (right - left)

    parts = []
    for decade in range(decades + 1):
        x = place(10**decade)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" class="grid"/>')
        parts.append(_text(x, height - BOTTOM + 16, f"{10**decade:,}"))
    x = place(goal)
    parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" class="goal"/>')
    for number, (code, points) in enumerate(leaks.items()):
        y = TOP + row * number + row / 2
        parts.append(_text(left - 10, y + 4, f"{code}  {names.get(code, '')}", "end"))
        parts += [
            f'<circle cx="{place(value):.1f}" cy="{y:.1f}" r="5" class="{"found" if alerted else "never"}">'
            f"<title>{escape(code)}: {value:,.0f} answers{'' if alerted else ', never noticed'}</title></circle>"
            for value, alerted in sorted(points)
        ]
    parts.append(
        _text((left + right) / 2, height - 8, "answers before the first alert; hollow: all of them, no alert came")
    )
    return _svg(parts, height, "What leaked before the alert")


def day_plot(series: Mapping[str, Mapping[int, Figure]]) -> str:
    """Draw shares by the day, a line a series with its intervals; unknown values are left out."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    days = sorted({day for figures in series.values() for day in figures})
    last = max(days, default=1)
    across = [(day / last, str(day)) for day in days]
    parts = [*_grid(across, _shares()), _text((LEFT + right) / 2, HEIGHT - 8, "days since the first answer")]
    for number, (name, figures) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        known = [(LEFT + day / last * (right - LEFT), figure) for day, figure in sorted(figures.items())
                 if not math.isnan(figure.value)]  # fmt: skip

        def height(share: float) -> float:
            return bottom - share * (bottom - TOP)

        points = " ".join(f"{x:.1f},{height(figure.value):.1f}" for x, figure in known)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts += [
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{height(figure.low):.1f}" y2="{height(figure.high):.1f}" '
            f'stroke="{colour}" stroke-width="5" opacity="0.25"/>'
            for x, figure in known
            if not math.isnan(figure.low)
        ]
        parts += _legend(number, name, colour)
    return _svg(parts, HEIGHT, "Large campaigns by the day")


def calibration_plot(points: Sequence[tuple[float, Figure, int]]) -> str:
    """Draw what share of accounts harvested (Figure) over the score, both logarithmic; the diagonal is the aim."""
    right, bottom, decades = WIDTH - RIGHT, HEIGHT - BOTTOM, 4

    def share(value: float) -> float:
        return max(0.0, 1 + math.log10(max(value, 1e-9)) / decades)

    def place(score: float, seen: float) -> tuple[float, float]:
        return LEFT + share(score) * (right - LEFT), bottom - share(seen) * (bottom - TOP)

    marks = [(step / decades, f"{10.0 ** (step - decades):g}") for step in range(decades + 1)]
    parts = [*_grid(marks, marks), _text((LEFT + right) / 2, HEIGHT - 8, "score"), _upright("share that harvests")]
    parts.append(f'<line x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{TOP}" class="goal"/>')
    for score, figure, count in points:
        if math.isnan(figure.value):
            continue
        x, y = place(score, figure.value)
        if not math.isnan(figure.low):
            low, high = place(score, figure.low)[1], place(score, figure.high)[1]
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" class="interval"/>')
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[0]}">'
            f"<title>score {score:.4f}: {figure.value:.4f} of {count:,} accounts</title></circle>"
        )
    return _svg(parts, HEIGHT, "Calibration")


def bar_plot(rows: Mapping[str, tuple[Figure, int]], names: Mapping[str, str], goal: float) -> str:
    """Draw shares as bars with intervals and counts, the largest first; a line marks the goal."""
    ordered = sorted(rows.items(), key=lambda each: -_known(each[1][0].value))
    row, left, right = 24, 275, WIDTH - 70
    height = TOP + row * len(ordered) + BOTTOM
    most = max([0.1, *(max(_known(figure.value), _known(figure.high)) for figure, _ in rows.values())])
    scale = (right - left) / most
    parts = []
    for step in range(5):
        x = left + (right - left) * step / 4
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" class="grid"/>')
        parts.append(_text(x, height - BOTTOM + 16, f"{most * step / 4:.0%}"))
    x = left + goal * scale
    parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{height - BOTTOM}" class="goal"/>')
    for number, (name, (figure, count)) in enumerate(ordered):
        y = TOP + row * number
        code, _, rest = name.partition(" ")
        parts.append(_text(left - 10, y + 16, f"{code}  {names.get(code, '')} {rest}".rstrip(), "end"))
        length = _known(figure.value) * scale
        parts.append(f'<rect x="{left}" y="{y + 5}" width="{length:.1f}" height="14" rx="2" fill="{COLOURS[1]}"/>')
        if not math.isnan(figure.low):
            parts.append(
                f'<line x1="{left + figure.low * scale:.1f}" x2="{left + figure.high * scale:.1f}" '
                f'y1="{y + 12}" y2="{y + 12}" class="interval"/>'
            )
        parts.append(_text(right + 8, y + 16, f"n = {count:,}", "start"))
    return _svg(parts, height, "Share flagged")


def _legend(number: int, name: str, colour: str) -> list[str]:
    right, y = WIDTH - RIGHT, TOP + 14 + 19 * number
    return [
        f'<rect x="{right + 14}" y="{y - 9}" width="12" height="4" fill="{colour}"/>',
        _text(right + 32, y - 3, name, "start", bold=number == 0),
    ]


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _thinned(xs: list[float], ys: list[float], most: int = 400) -> list[tuple[float, float]]:
    step = max(1, len(xs) // most)
    pairs = list(zip(xs, ys, strict=True))
    return pairs[::step] + pairs[-1:]


def _steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join points as average precision counts them: a precision holds for all recall up to its own."""
    corners = []
    before = 0.0
    for recall, precision in points:
        corners += [(before, precision), (recall, precision)]
        before = recall
    return corners


def _shares() -> list[tuple[float, str]]:
    return [(step / 5, f"{step / 5:.1f}") for step in range(6)]


def _grid(across: list[tuple[float, str]], up: list[tuple[float, str]]) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for share, label in across:
        x = LEFT + share * (right - LEFT)
        parts += [
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" class="grid"/>',
            _text(x, bottom + 16, label),
        ]
    for share, label in up:
        y = bottom - share * (bottom - TOP)
        parts += [f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" class="grid"/>',
                  _text(LEFT - 8, y + 4, label, "end")]  # fmt: skip
    return parts


def _text(x: float, y: float, text: str, anchor: str = "middle", bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'


def _upright(text: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(text)}</text>'


def _svg(parts: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
