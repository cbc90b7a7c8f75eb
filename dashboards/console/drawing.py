"""Small drawings as SVG, made on the server: positions in per cent, so that they fit any width without scaling text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from markupsafe import Markup

from dashboards.console import words

SPARK_HEIGHT = 24
CURVE_HEIGHT = 148
CURVE_TOP = 34  # room for the labels of marks and of the peak


@dataclass(frozen=True)
class Mark:
    """A moment on the curve that people should see, such as the alert or a decision."""

    day: date
    label: str


def sparkline(values: Sequence[float], label: str, hot: bool = False) -> Markup:
    """Draw daily values as thin bars; the last one stands out while it still goes on (`hot`)."""
    peak = max(values, default=0) or 1
    step = 100 / max(len(values), 1)
    bars = [
        _bar(
            i * step,
            step * 0.7,
            SPARK_HEIGHT,
            max(value / peak * (SPARK_HEIGHT - 2), 1),
            "hot" if hot and i == len(values) - 1 else "nil" if not value else "",
        )
        for i, value in enumerate(values)
    ]
    return _svg("spark", SPARK_HEIGHT, label, bars)


def curve(days: Sequence[date], values: Sequence[float], marks: Sequence[Mark], label: str) -> Markup:
    """Draw one bar a day with its peak labelled, and a vertical line at each mark."""
    peak = max(values, default=0) or 1
    step = 100 / max(len(days), 1)
    floor = CURVE_HEIGHT - 20
    parts = [
        _bar(i * step + step * 0.12, step * 0.76, floor, value / peak * (floor - CURVE_TOP), "", _day_title(day, value))
        for i, (day, value) in enumerate(zip(days, values, strict=True))
        if value
    ]
    parts.append(Markup('<line class="base" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(floor + 0.5))
    if max(values, default=0):
        at = list(values).index(max(values))
        parts.append(_text((at + 0.5) * step, CURVE_TOP - 6, words.compact(peak), "peak"))
    parts += [_mark(days, step, floor, row, mark) for row, mark in enumerate(marks) if mark.day in days]
    for order, i in enumerate(_ticks(len(days))):
        kind = "tick minor" if order % 2 else "tick"
        parts.append(
            _text(
                (i + (0.5 if order else 0)) * step,
                CURVE_HEIGHT - 4,
                words.day(days[i]),
                kind,
                "middle" if order else "start",
            )
        )
    return _svg("curve", CURVE_HEIGHT, label, parts)


def comparison(value: float, own: float | None, peers: float | None, feature: str) -> Markup:
    """Draw an account as a dot on one axis from zero, with its own past and its peers' median as ticks."""
    top = max(abs(number) for number in (value, own or 0, peers or 0)) or 1
    top = 1.0 if words.is_share(feature) and 0.5 < top <= 1 else top * 1.08
    ticks = [(name, number) for name, number in (("own past", own), ("peers", peers)) if number is not None]
    label = ", ".join(f"{name} {words.measure(number, feature)}" for name, number in [("this account", value), *ticks])
    parts = [Markup('<line class="base" x1="0" x2="100%" y1="24.5" y2="24.5"/>')]
    places = [_place(number, top) for _, number in ticks]
    crowded = len(places) == 2 and abs(places[0] - places[1]) < 34
    for row, ((name, number), place) in enumerate(zip(ticks, places, strict=True)):
        kind = "own" if name == "own past" else "peers"
        parts.append(Markup('<line class="{0}" x1="{1}" x2="{1}" y1="17" y2="32"/>').format(kind, _pc(place)))
        left_one = crowded and place <= min(places) and not (places[0] == places[1] and row)
        y = 45 if not crowded or left_one else 59
        parts.append(_text(place, y, f"{name} {words.measure(number, feature)}", f"tick {kind}"))
    here = _place(value, top)
    parts.append(Markup('<circle class="dot" cx="{}" cy="24.5" r="5"/>').format(_pc(here)))
    parts.append(_text(here, 12, words.measure(value, feature), "value"))
    return _svg("comparison", 64 if crowded else 50, label, parts)


def loss_curve(steps: Sequence[float], losses: Sequence[float], label: str) -> Markup:
    """Draw a training's loss over its steps as one thin line, first and last value labelled."""
    top, end = max(losses), max(steps) or 1
    points = [
        (step / end * 100, CURVE_TOP + (1 - loss / top) * (CURVE_HEIGHT - 20 - CURVE_TOP))
        for step, loss in zip(steps, losses, strict=True)
    ]
    parts = [
        Markup('<line class="trace" x1="{}" y1="{:.1f}" x2="{}" y2="{:.1f}"/>').format(_pc(x1), y1, _pc(x2), y2)
        for (x1, y1), (x2, y2) in pairwise(points)
    ]
    parts.append(Markup('<line class="base" x1="0" x2="100%" y1="{0}" y2="{0}"/>').format(CURVE_HEIGHT - 19.5))
    for (x, y), loss in ((points[0], losses[0]), (points[-1], losses[-1])):
        parts.append(_text(x, y - 8, f"{loss:.2f}", "peak"))
    parts.append(_text(0, CURVE_HEIGHT - 4, "step 1", "tick"))
    parts.append(_text(100, CURVE_HEIGHT - 4, f"step {words.number(end)}", "tick"))
    return _svg("curve", CURVE_HEIGHT, label, parts)


def margin_plot(difference: float, bound: float, margin: float, label: str) -> Markup:
    """Draw a difference with its lower confidence bound on an axis of points, against zero and the margin's line."""
    low = min(bound, -margin) - 0.03
    span = max(difference + 0.03, 0.05) - low

    def at(value: float) -> float:
        return (value - low) / span * 100

    allowed = Markup('<rect class="allowed" x="{}" width="{}" y="18" height="28"/>').format(
        _pc(at(-margin)), _pc(100 - at(-margin))
    )
    parts = [allowed, Markup('<line class="base" x1="0" x2="100%" y1="46.5" y2="46.5"/>')]
    for place, name, kind in ((-margin, f"margin {words.points(-margin)}", "limit"), (0.0, "0", "zero")):
        line = Markup('<line class="{0}" x1="{1}" x2="{1}" y1="18" y2="50"/>').format(kind, _pc(at(place)))
        parts += [line, _text(at(place), 62, name, "tick")]
    whisker = Markup('<line class="whisker" x1="{}" x2="{}" y1="32" y2="32"/>').format(
        _pc(at(bound)), _pc(at(difference))
    )
    end = Markup('<line class="whisker" x1="{0}" x2="{0}" y1="26" y2="38"/>').format(_pc(at(bound)))
    dot = Markup('<circle class="dot" cx="{}" cy="32" r="5"/>').format(_pc(at(difference)))
    parts += [whisker, end, dot, _text(at(difference), 12, words.points(difference), "value")]
    if at(difference) - at(bound) > 12:
        parts.append(_text(at(bound), 12, words.points(bound), "tick"))
    return _svg("margin", 66, label, parts)


def share_bar(share: float, label: str) -> Markup:
    """Draw a share as a thin bar in a track."""
    width = _pc(max(0.0, min(share, 1.0)) * 100)
    parts = [
        Markup('<rect class="track" x="0" y="0" width="100%" height="6" rx="3"/>'),
        Markup('<rect class="fill" x="0" y="0" width="{}" height="6" rx="3"/>').format(width),
    ]
    return _svg("share-bar", 6, label, parts)


def _svg(kind: str, height: int, label: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="{}" role="img" aria-label="{}" width="100%" height="{}">').format(kind, label, height)
    return head + Markup("").join(parts) + Markup("</svg>")


def _bar(x: float, width: float, floor: float, height: float, kind: str, title: str = "") -> Markup:
    template = '<rect class="bar {}" x="{}" width="{}" y="{:.1f}" height="{:.1f}">{}</rect>'
    inner = Markup("<title>{}</title>").format(title) if title else ""
    return Markup(template).format(kind, _pc(x), _pc(width), floor - height, height, inner)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "") -> Markup:
    anchor = anchor or ("start" if x < 12 else "end" if x > 88 else "middle")
    template = '<text class="{}" x="{}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(template).format(kind, _pc(x), y, anchor, text)


def _mark(days: Sequence[date], step: float, floor: int, row: int, mark: Mark) -> Markup:
    x = (list(days).index(mark.day) + 0.5) * step
    line = Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(_pc(x), 14 * (row % 2) + 4, floor)
    anchor = "end" if x > 50 else "start"
    template = '<text class="mark" x="{}" dx="{}" y="{}" text-anchor="{}">{}</text>'
    return line + Markup(template).format(_pc(x), -5 if x > 50 else 5, 14 * (row % 2) + 12, anchor, mark.label)


def _day_title(day: date, value: float) -> str:
    return f"{words.day(day)}: {words.number(value)}"


def _ticks(count: int) -> list[int]:
    if count < 3:
        return list(range(count))
    every = max(round(count / 6), 1)
    return list(range(0, count, every))


def _place(value: float, top: float) -> float:
    return max(0.0, min(value / top, 1.0)) * 98 + 1


def _pc(value: float) -> str:
    return f"{value:.2f}%"
