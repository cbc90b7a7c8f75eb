"""Draws a loss curve as an SVG file, without a plotting library."""

from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 640, 320, 48


def write_curve(path: Path, losses: Sequence[float], title: str) -> None:
    """Write the losses (nats, one per step) as a line over the steps, on an axis that starts at 0."""
    top = max(losses, default=0.0) or 1.0
    span = max(1, len(losses) - 1)
    points = " ".join(
        f"{MARGIN + index / span * (WIDTH - 2 * MARGIN):.1f},{HEIGHT - MARGIN - loss / top * (HEIGHT - 2 * MARGIN):.1f}"
        for index, loss in enumerate(losses)
    )
    left, right, bottom = MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n'
        f'<path d="M{left} {MARGIN}V{bottom}H{right}" fill="none" stroke="#888"/>\n'
        f'<polyline points="{points}" fill="none" stroke="#a85b00" stroke-width="1.5"/>\n'
        f'<text x="{left}" y="24">{title}</text>\n'
        f'<text x="{left - 6}" y="{MARGIN + 4}" text-anchor="end">{top:.2f}</text>\n'
        f'<text x="{left - 6}" y="{bottom + 4}" text-anchor="end">0</text>\n'
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">step {len(losses)}</text>\n'
        "</svg>\n",
        encoding="utf-8",
    )
