"""The HTML of a report: its sections, tables and pictures. One file, no libraries, nothing from a network."""

import html
import math
from collections.abc import Mapping, Sequence

from fastdet.visualization.style import SCRIPT, STYLE
from fastdet.visualization.wall import Picture


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """The whole document."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"/>\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        f'<p class="sub">{escape(subtitle)}</p>\n'
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>//<![CDATA[{SCRIPT}//]]></script>\n</body>\n</html>\n"
    )


def section(title: str, body: str, *, note: str = "") -> str:
    """A heading, a line of explanation and the body."""
    explained = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{explained}{body}\n</section>"


def panels(items: Sequence[tuple[str, str]], *, small: bool = False) -> str:
    """Titled boxes side by side; the bodies are HTML."""
    boxes = "".join(f'<div class="panel"><h3>{escape(title)}</h3>{body}</div>' for title, body in items)
    return f'<div class="grid{" small" if small else ""}">{boxes}</div>'


def cards(values: Mapping[str, float], baseline: Mapping[str, float], main: Sequence[str]) -> str:
    """A row of headline numbers, with their change against a baseline; `main` names those that are set off."""
    boxes = []
    for name, value in values.items():
        change = ""
        if name in baseline and math.isfinite(baseline[name]):
            delta = value - baseline[name]
            kind = "up" if delta > 0 else "down" if delta < 0 else "sub"
            change = f' <em class="{kind}">{delta:+.3f}</em>'
        # COCO's -1 says that there was nothing to evaluate.
        shown = f"{value:.3f}" if value >= 0 else "–"
        kind = "card main" if name in main else "card"
        label = f'<span title="{escape(name)}">{escape(name.split("/")[-1])}</span>'
        boxes.append(f'<div class="{kind}"><b>{shown}</b>{label}{change}</div>')
    return f'<div class="cards">{"".join(boxes)}</div>'


def table(header: Sequence[str], rows: Sequence[Sequence[str | float | int]], *, bars: Sequence[int] = ()) -> str:
    """A table that sorts by a click; floats are shown with three digits, NaN as a dash.

    Args:
        bars: columns of values in [0, 1] that are shown with a bar behind the number.
    """
    head = "".join(f'<th data-sort="">{escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(_cell(value, column in bars) for column, value in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="panel scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(value: str | float | int, has_bar: bool) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if isinstance(value, int):
        return f'<td data-v="{value}">{value}</td>'
    if not math.isfinite(value):
        return '<td data-v="NaN">–</td>'
    bar = f' class="bar" style="--part:{100 * min(max(value, 0.0), 1.0):.1f}%"' if has_bar else ""
    return f'<td data-v="{value:.6g}"{bar}>{value:.3f}</td>'


def fold(title: str, body: str) -> str:
    """A part that is shown on a click."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def facts(values: Mapping[str, object]) -> str:
    """Names and values, one a row."""
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td></tr>" for name, value in values.items())
    return f"<table><tbody>{rows}</tbody></table>"


def pictures(items: Sequence[Picture]) -> str:
    """The pictures with their captions, in columns."""
    figures = []
    for item in items:
        height, width = item.size
        if item.uri is None:
            image = '<div class="missing">the picture could not be read</div>'
        else:
            image = (
                f'<img src="{item.uri}" width="{width}" height="{height}" loading="lazy" alt="{escape(item.name)}"/>'
            )
        text = f"<b>{escape(item.name)}</b> · F1 {item.f1:.2f}<br/><span>{escape(item.caption)}</span>"
        figures.append(f"<figure>{image}<figcaption>{text}</figcaption></figure>")
    return f'<div class="wall">{"".join(figures)}</div>'


def escape(text: str) -> str:
    """Text as HTML, without the control characters that HTML does not allow."""
    return html.escape("".join(c for c in text if c >= " " or c in "\n\t"), quote=True)
