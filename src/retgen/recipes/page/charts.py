"""Line charts as SVG in the page itself: no pictures, no library, colours from the page's style."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from retgen.recipes.page.content import Chart

WIDTH, HEIGHT = 460, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 40
_STYLES = 6


def chart_html(chart: Chart) -> str:
    """A figure: the chart, its caption with a legend, and the numbers in a table that opens."""
    lines = list(chart.lines.items())
    legend = "".join(
        f'<li><span class="swatch s{n % _STYLES}"></span>{_text(name)}</li>' for n, (name, _) in enumerate(lines)
    )
    positions = sorted({x for _, points in lines for x in points})
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name, _ in lines)
    rows = "".join(
        f'<tr><th scope="row">{_number(x)}</th>'
        + "".join(f"<td>{_number(points[x]) if x in points else '–'}</td>" for _, points in lines)
        + "</tr>"
        for x in positions
    )
    caption = f'<figcaption>{_text(chart.title)}<ul class="legend">{legend}</ul></figcaption>'
    head = f'<thead><tr><th scope="col">{_text(chart.x_label)}</th>{head}</tr></thead>'
    table = f'<div class="wide" tabindex="0"><table>{head}<tbody>{rows}</tbody></table></div>'
    numbers = f"<details><summary>Numbers</summary>{table}</details>"
    return f'<figure class="chart">{svg(chart)}{caption}{numbers}</figure>'


def svg(chart: Chart) -> str:
    """The chart alone. A line of one point is a dot."""
    xs = [x for points in chart.lines.values() for x in points]
    ys = [y for points in chart.lines.values() for y in points.values()]
    x_low, x_high = _room(min(xs), max(xs), margin=0.0)
    y_low, y_high = _room(min(ys), max(ys), margin=0.05)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)
        return across, HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{_text(chart.title)} by {_text(chart.x_label)}">'
    ]
    for y in _ticks(y_low, y_high):
        at = place(x_low, y)[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(y)}</text>')
    for x in _ticks(x_low, x_high):
        at = place(x, y_low)[0]
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{_number(x)}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{_text(chart.x_label)}</text>')
    for number, points in enumerate(chart.lines.values()):
        drawn = [place(x, points[x]) for x in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline class="line s{number % _STYLES}" points="{path}"/>')
        parts += [f'<circle class="dot s{number % _STYLES}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in drawn[:60]]
    return "".join([*parts, "</svg>"])


def _room(low: float, high: float, margin: float) -> tuple[float, float]:
    """A range of some width around the values."""
    if low == high:
        half = abs(low) * 0.1 or 0.5
        return low - half, high + half
    wide = (high - low) * margin
    return low - wide, high + wide


def _ticks(low: float, high: float) -> Sequence[float]:
    """Three to six round numbers in a range."""
    step: float = 10 ** math.floor(math.log10(high - low))
    for part in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0):
        if (high - low) / (step * part) <= 5:
            step *= part
            break
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _number(value: float) -> str:
    return f"{round(value, 10):.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def _text(value: str) -> str:
    return html.escape(value, quote=True)
