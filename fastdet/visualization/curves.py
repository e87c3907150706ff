"""Line charts and heat maps as inline SVG: no plotting library, colours from the page's style, light and dark."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_WIDTH, _HEIGHT = 440, 262
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 40
_MAX_POINTS = 400  # a longer line is averaged in bins; its data file has every point
NUM_COLORS = 8  # the page defines --line-0 to --line-7


class Series(NamedTuple):
    """One line: points with finite x; y may be NaN, where the line is broken."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    is_main: bool = False  # drawn thicker
    has_dots: bool = False  # a dot at each point, for few points


class Marker(NamedTuple):
    """A point with a word beside it."""

    x: float
    y: float
    text: str


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    is_log: bool = False,
    marker: Marker | None = None,
) -> str:
    """An SVG of lines over common axes, with a legend below it.

    Args:
        series: up to eight lines; points with y <= 0 are left out of a logarithmic chart.
        x_range, y_range: the ends of the axes; None fits the data.
        is_log: a logarithmic y axis.
        marker: a point to point out.
    """
    lines = [_clean(one, is_log) for one in series]
    xs = np.concatenate([x for x, _ in lines]) if lines else np.zeros(0)
    ys = np.concatenate([y for _, y in lines]) if lines else np.zeros(0)
    ys = ys[np.isfinite(ys)]
    x_axis = _Axis(_fit(xs, x_range, False), _LEFT, _WIDTH - _RIGHT, False)
    y_axis = _Axis(_fit(ys, y_range, is_log), _HEIGHT - _BOTTOM, _TOP, is_log)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" class="chart" role="img" aria-label="{_text(y_label)}">']
    parts += _axes(x_axis, y_axis, x_label, y_label)
    for number, (one, (x, y)) in enumerate(zip(series, lines, strict=True)):
        parts.append(_line(one, x, y, number % NUM_COLORS, x_axis, y_axis))
    if marker is not None:
        parts.append(_marker(marker, x_axis, y_axis))
    parts.append("</svg>")
    return "".join(parts) + _legend(series)


class _Axis:
    """Maps values to pixels, linearly or by the logarithm, and knows round values to mark."""

    def __init__(self, ends: tuple[float, float], start: float, stop: float, is_log: bool) -> None:
        self.low, self.high = ends
        self._start, self._stop, self._is_log = start, stop, is_log

    def place(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self._is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self._start + (at - low) / (high - low) * (self._stop - self._start)

    def ticks(self) -> list[float]:
        if self._is_log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            values = [10.0**p for p in powers]
            if len(values) < 3:
                values = [
                    f * 10.0**p
                    for p in range(min(powers, default=0) - 1, max(powers, default=0) + 1)
                    for f in (1, 2, 5)
                ]
            return [v for v in values if self.low * (1 - 1e-9) <= v <= self.high * (1 + 1e-9)]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [round(n * step, 12) for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * (1 - 1e-9))


def _fit(values: np.ndarray, ends: tuple[float, float] | None, is_log: bool) -> tuple[float, float]:
    if ends is not None:
        return ends
    if values.size == 0:
        return (0.1, 1.0) if is_log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if is_log:
        return low / 1.2, high * 1.2
    if low == high:
        return low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    if 0 <= low < 0.4 * high:
        return 0.0, high * 1.04
    margin = (high - low) * 0.04
    return low - margin, high + margin


def _clean(series: Series, is_log: bool) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(series.x, dtype=float), np.asarray(series.y, dtype=float)
    if is_log:
        y = np.where(y > 0, y, np.nan)
    if len(x) > _MAX_POINTS:
        bins = np.array_split(np.arange(len(x)), _MAX_POINTS)
        x, y = np.array([x[b].mean() for b in bins]), np.array([y[b].mean() for b in bins])
    return x, y


def _axes(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in y_axis.ticks():
        y = _number(y_axis.place(value))
        parts.append(f'<path class="rule" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y}" dy=".35em" text-anchor="end">{_tick(value)}</text>')
    for value in x_axis.ticks():
        x = _number(x_axis.place(value))
        parts.append(f'<path class="tick" d="M{x} {bottom}v4"/>')
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{_tick(value)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{right}"/>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text class="name" x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{_text(x_label)}</text>')
    height = (_TOP + bottom) / 2
    turn = f'transform="rotate(-90 11 {height})"'
    parts.append(f'<text class="name" x="11" y="{height}" text-anchor="middle" {turn}>{_text(y_label)}</text>')
    return parts


def _line(series: Series, x: np.ndarray, y: np.ndarray, color: int, x_axis: _Axis, y_axis: _Axis) -> str:
    points = [
        (_number(x_axis.place(a)), _number(y_axis.place(min(max(b, y_axis.low), y_axis.high))))
        if math.isfinite(b)
        else None
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    path, pen_down = [], False
    for point in points:
        if point is not None:
            path.append(f"{'L' if pen_down else 'M'}{point[0]} {point[1]}")
        pen_down = point is not None
    weight = " main" if series.is_main else ""
    parts = [f'<g class="line c{color}{weight}"><title>{_text(series.name)}</title><path d="{"".join(path)}"/>']
    visible = [point for point in points if point is not None]
    if series.has_dots or len(visible) == 1:
        parts += [f'<circle cx="{a}" cy="{b}" r="2.6"/>' for a, b in visible]
    return "".join(parts) + "</g>"


def _marker(marker: Marker, x_axis: _Axis, y_axis: _Axis) -> str:
    x, y = x_axis.place(marker.x), y_axis.place(marker.y)
    anchor = "end" if x > _WIDTH * 0.6 else "start"
    shift = -9 if anchor == "end" else 9
    bottom = _HEIGHT - _BOTTOM
    return (
        f'<g class="marker"><path d="M{_number(x)} {_number(y)}V{bottom}"/>'
        f'<circle cx="{_number(x)}" cy="{_number(y)}" r="4"/>'
        f'<text x="{_number(x + shift)}" y="{bottom - 9}" text-anchor="{anchor}">'
        f"{_text(marker.text)}</text></g>"
    )


def _legend(series: Sequence[Series]) -> str:
    items = "".join(
        f'<span><i class="c{number % NUM_COLORS}"></i>{_text(one.name)}</span>' for number, one in enumerate(series)
    )
    return f'<div class="legend">{items}</div>' if len(series) > 1 else ""


def heat_map(values: np.ndarray, counts: np.ndarray, names: Sequence[str], *, row_label: str, column_label: str) -> str:
    """An SVG matrix: each cell's shade is its value, its tooltip the names and counts.

    Args:
        values: [N, N] in [0, 1].
        counts: [N, N] whole numbers, for the tooltips.
        names: N names of rows and columns.
    """
    number = len(names)
    side = max(13, min(46, 560 // max(number, 1)))
    font = max(8, min(12, side - 3))
    margin = 26 + min(150, max((len(name) for name in names), default=1) * font * 0.62)
    total = margin + number * side + 6
    parts = [
        f'<svg viewBox="0 0 {_number(total)} {_number(total)}" class="heat" role="img" aria-label="confusion matrix" '
        f'style="max-width:{_number(total)}px" font-size="{font}">'
    ]
    middle = margin + number * side / 2
    parts.append(f'<text class="name" x="{_number(middle)}" y="12" text-anchor="middle">{_text(column_label)}</text>')
    turn = f'transform="rotate(-90 10 {_number(middle)})"'
    parts.append(
        f'<text class="name" x="10" y="{_number(middle)}" text-anchor="middle" {turn}>{_text(row_label)}</text>'
    )
    for index, name in enumerate(names):
        at = _number(margin + (index + 0.5) * side)
        short = _text(name if len(name) * font * 0.62 <= 150 else name[: int(150 / font / 0.62) - 1] + "…")
        parts.append(f'<text x="{_number(margin - 5)}" y="{at}" dy=".35em" text-anchor="end">{short}</text>')
        edge = _number(margin - 5)
        parts.append(f'<text x="{at}" y="{edge}" dy=".35em" transform="rotate(-90 {at} {edge})">{short}</text>')
    for row, column in np.argwhere(counts > 0).tolist():
        value = float(values[row, column])
        x, y = margin + column * side, margin + row * side
        kind = "hit" if row == column else "miss"
        label = f"{names[row]} → {names[column]}: {int(counts[row, column])} ({value:.0%})"
        parts.append(
            f'<g class="{kind}"><title>{_text(label)}</title><rect x="{_number(x)}" y="{_number(y)}" width="{side}" '
            f'height="{side}" fill-opacity="{_number(0.06 + 0.94 * value)}"/>'
        )
        if side >= 24:
            ink = "strong" if value > 0.5 else "weak"
            parts.append(
                f'<text class="{ink}" x="{_number(x + side / 2)}" y="{_number(y + side / 2)}" dy=".35em" '
                f'text-anchor="middle">{_share(value)}</text>'
            )
        parts.append("</g>")
    corner, length = _number(margin), number * side
    parts.append(f'<rect class="frame" x="{corner}" y="{corner}" width="{length}" height="{length}"/></svg>')
    return "".join(parts)


def _share(value: float) -> str:
    return "<1" if 0 < value < 0.005 else f"{value * 100:.0f}"


def _tick(value: float) -> str:
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:g}"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    return html.escape(text, quote=True)
