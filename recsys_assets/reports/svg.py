"""Small charts as SVG inside of a page: their colours are the page's, so they fit light, dark and paper.

All charts share one size, 360 by 200 units, in which text has the size of the page's on a phone.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 22
COLOURS = 8  # classes c0 to c7 of the page; later series have dashes
Points = Sequence[tuple[float, float]]
Band = Sequence[tuple[float, float, float]]


def lines(
    title: str,
    series: Mapping[str, Points],
    bands: Mapping[str, Band] | None = None,
    x_labels: tuple[str, str] = ("", ""),
    *,
    diagonal: bool = False,
) -> str:
    """One line for each series of (x, y), and for those with a band of (x, low, high) its range behind the line.

    `x_labels` are below the left and the right end. A series without points is not drawn, but keeps its colour. With
    `diagonal` both axes begin at 0, and a line shows x = y.
    """
    bands = bands or {}
    points = [point for each in series.values() for point in each]
    points += [(x, y) for each in bands.values() for x, low, high in each for y in (low, high)]
    if not points:
        return ""
    (x_low, x_high), (y_low, y_high) = (
        _range([x for x, _ in points], diagonal),
        _range([y for _, y in points], diagonal),
    )

    def place(x: float, y: float) -> str:
        across = (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        up = (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return f"{LEFT + across:.1f},{HEIGHT - BOTTOM - up:.1f}"

    drawn = [_grid(y_low, y_high, x_labels)]
    if diagonal:
        end = min(x_high, y_high)
        drawn.append(f'<polyline class="even" points="{place(0, 0)} {place(end, end)}"/>')
    for number, (name, each) in enumerate(series.items()):
        if not each:
            continue
        style = _style(number)
        if band := bands.get(name):
            outline = [*((x, high) for x, _, high in band), *((x, low) for x, low, _ in reversed(band))]
            drawn.append(f'<polygon class="band {style}" points="{" ".join(place(x, y) for x, y in outline)}"/>')
        drawn.append(f'<polyline class="line {style}" points="{" ".join(place(x, y) for x, y in each)}"/>')
        marks = [place(x, y).split(",") for x, y in each] if len(each) <= 10 else []
        drawn += [f'<circle class="{style}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in marks]
    return _figure(title, drawn, HEIGHT, _legend(series) if len(series) > 1 else "")


def bars(
    title: str, values: Mapping[str, float], other: Mapping[str, float] | None = None, *, share: bool = False
) -> str:
    """One bar for each name, with its value at its end; `other` is drawn as a thin line below, such as last week's."""
    if not values:
        return ""
    other, step, start = other or {}, 22, 128
    top = max([*values.values(), *other.values(), 1e-12])
    drawn = []
    for number, (name, value) in enumerate(values.items()):
        y, long = number * step + 4, (WIDTH - start - 52) / top
        text = f"{value:.1%}" if share else short(value)
        drawn.append(f'<text class="name" x="{start - 6}" y="{y + 11}">{escape(_cut(name, 20))}</text>')
        drawn.append(f'<rect class="c0" x="{start}" y="{y}" width="{max(value * long, 0.5):.1f}" height="12"/>')
        if name in other:
            drawn.append(f'<rect class="c1" x="{start}" y="{y + 13}" width="{other[name] * long:.1f}" height="4"/>')
        drawn.append(f'<text x="{start + max(value, other.get(name, 0.0)) * long + 4:.1f}" y="{y + 11}">{text}</text>')
    return _figure(title, drawn, len(values) * step + 6, "")


def short(value: float) -> str:
    """A number in a few characters."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}" if abs(value) >= 0.01 else f"{value:.4f}" if abs(value) >= 0.0001 else f"{value:.1e}"


def _range(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    low, high = (0.0 if from_zero else min(values)), max(values)
    margin = 0.0 if from_zero else (high - low) * 0.06
    if high - low < 1e-12:
        margin = abs(high) * 0.05 or 1.0
    return low - margin, high + margin


def _grid(low: float, high: float, x_labels: tuple[str, str]) -> str:
    """Horizontal lines at round numbers, with their labels, and the labels of the x axis."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(times for times in (1, 2, 5, 10) if (high - low) / (step * times) <= 4)
    found = []
    for tick in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = HEIGHT - BOTTOM - (tick * step - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
        found.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        found.append(f'<text class="name" x="{LEFT - 5}" y="{y + 4:.1f}">{_tick(tick * step, step)}</text>')
    left, right = map(escape, x_labels)
    found.append(f'<text x="{LEFT}" y="{HEIGHT - 5}">{left}</text>')
    found.append(f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 5}">{right}</text>')
    return "".join(found)


def _tick(value: float, step: float) -> str:
    return f"{value:,.{max(0, -math.floor(math.log10(step)))}f}"


def _legend(series: Mapping[str, Points]) -> str:
    keys = [f'<span class="key {_style(n)}">{escape(name)}</span>' for n, name in enumerate(series) if series[name]]
    return f'<span class="keys">{"".join(keys)}</span>'


def _style(number: int) -> str:
    return f"c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _figure(title: str, drawn: Sequence[str], height: float, legend: str) -> str:
    label, content = escape(title, quote=True), "".join(drawn)
    picture = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{content}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{picture}{legend}</figure>"
