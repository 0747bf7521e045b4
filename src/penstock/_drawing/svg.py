"""The text of an SVG image of a graph: boxes with labels, and curves between them."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from penstock._drawing.layout import HEADING, Box, Item, Point, layout

_MARGIN, _TITLE = 16.0, 30.0
_HEIGHT, _CHARACTER_WIDTH, _SPACE = 34.0, 7.6, 26.0
_LONGEST = 40
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RULES = (
    "text{font:13px system-ui,sans-serif;fill:#1f2937}",
    "text.title{font-size:15px;font-weight:600}",
    "rect{fill:#eef2ff;stroke:#6366f1;stroke-width:1.2}",
    "rect.Completed,rect.Cached{fill:#dcfce7;stroke:#16a34a}",
    "rect.Failed,rect.TimedOut,rect.Crashed{fill:#fee2e2;stroke:#dc2626}",
    "rect.Cancelled,rect.NotReady{fill:#f3f4f6;stroke:#6b7280}",
    "rect.flow{fill:#f8fafc;stroke-dasharray:5 3}",
    "path{fill:none;stroke:#64748b;stroke-width:1.3}",
    "marker path{fill:#64748b;stroke:none}",
)
_CLASS = "penstock-picture"
_STYLE = "".join(
    re.sub(r"(?:^|,)(?=[^}]*{)", lambda at: f"{at[0]}.{_CLASS} ", rule) for rule in _RULES
)
"""Each rule with the class of the image, as the style of an inline image applies to its page."""
_HEAD = (
    '<defs><marker id="penstock-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
    'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
)


class Shape(NamedTuple):
    """A node as it is drawn.

    Attributes:
        label: its text.
        inside: the number of the shape around it.
        is_flow: whether it is a subflow.
        state: the name of a state, which decides the colour.
    """

    label: str
    inside: int | None
    is_flow: bool
    state: str | None


def drawn(title: str, shapes: Sequence[Shape], edges: Iterable[tuple[int, int]]) -> str:
    """The text of the image."""
    placed = layout([_item(shape) for shape in shapes], edges)
    outer = {shape.inside for shape in shapes}
    width = max(placed.width, _width_of(title)) + 2 * _MARGIN
    height = placed.height + 2 * _MARGIN + _TITLE
    size = f"{width:.0f} {height:.0f}"
    x, y = (width - placed.width) / 2, _MARGIN + _TITLE
    body = [
        *(_rectangle(shape, placed.boxes[n], n in outer) for n, shape in enumerate(shapes)),
        *(_curve(path) for path in placed.paths.values()),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{_CLASS}" viewBox="0 0 {size}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>{_HEAD}"
        f'<text class="title" x="{_MARGIN:.0f}" y="{_MARGIN + 12:.0f}">{_text(title)}</text>'
        f'<g transform="translate({x:.1f} {y:.1f})">{"".join(body)}</g></svg>\n'
    )


def _item(shape: Shape) -> Item:
    return Item(_width_of(shape.label) + _SPACE, _HEIGHT, shape.inside)


def _rectangle(shape: Shape, box: Box, is_outer: bool) -> str:
    kinds = [*(["flow"] if shape.is_flow else []), *([shape.state] if shape.state else [])]
    kind = f' class="{_text(" ".join(kinds))}"' if kinds else ""
    x, anchor = (box.x + 10, "start") if is_outer else (box.top.x, "middle")
    y = box.y + (HEADING * 0.7 if is_outer else box.height / 2 + 4.5)
    return (
        f'<g><title>{_text(shape.label)}</title><rect{kind} x="{box.x:.1f}" y="{box.y:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:.1f}" rx="7"/>'
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{_text(_shown(shape.label))}</text></g>"
    )


def _curve(path: Sequence[Point]) -> str:
    """A curve from point to point; each part begins and ends vertically."""
    start = path[0]
    parts = [f"M{start.x:.1f} {start.y:.1f}"]
    for before, point in pairwise(path):
        middle = (before.y + point.y) / 2
        parts.append(
            f"C{before.x:.1f} {middle:.1f} {point.x:.1f} {middle:.1f} {point.x:.1f} {point.y:.1f}"
        )
    return f'<path d="{"".join(parts)}" marker-end="url(#penstock-arrow)"/>'


def _shown(label: str) -> str:
    return label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…"


def _width_of(label: str) -> float:
    """An estimate of the width; the real one depends on the fonts of the browser."""
    return sum(
        _CHARACTER_WIDTH * (1 + (unicodedata.east_asian_width(c) in "WF")) for c in _shown(label)
    )


def _text(text: str) -> str:
    """The text, escaped, and with characters replaced that XML does not allow."""
    return html.escape(_NO_XML.sub("\ufffd", text))
