"""The layout of a graph: boxes in layers from top to bottom, and boxes inside boxes.

A box lies below all boxes that have an edge to it. Within a layer, boxes are sorted by the
positions of their neighbours; an edge across several layers bends in each layer between.

Why: docs/inside/rules.md, "Pictures are laid out by our own code".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

Vertex: TypeAlias = Hashable
"""What a layer consists of: boxes, by their numbers, and bends of edges."""
Edge: TypeAlias = tuple[int, int]

GAP_X, GAP_Y = 24.0, 44.0
"""The space between two boxes of a layer, and between two layers."""
PADDING, HEADING = 16.0, 30.0
"""The space around what is in a box, and the height of its label."""
_BEND_WIDTH = 8.0
_SWEEPS = 4


class Point(NamedTuple):
    """A point, measured from the top left corner of what it is in."""

    x: float
    y: float

    def plus(self, other: Point) -> Point:
        """The point that is as far from this one as the other is from the corner."""
        return Point(self.x + other.x, self.y + other.y)


class Box(NamedTuple):
    """A rectangle, by its top left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> Point:
        """The middle of its upper side."""
        return Point(self.x + self.width / 2, self.y)

    @property
    def bottom(self) -> Point:
        """The middle of its lower side."""
        return Point(self.x + self.width / 2, self.y + self.height)


class Layout(NamedTuple):
    """A graph with the positions of its boxes and edges.

    Attributes:
        width: of the whole drawing.
        height: of the whole drawing.
        boxes: by number; a box inside another one lies within it.
        paths: the points that each edge passes through.
    """

    width: float
    height: float
    boxes: Mapping[int, Box]
    paths: Mapping[Edge, Sequence[Point]]


class Item(NamedTuple):
    """A box without a position.

    Attributes:
        width: of its label, with the space around it.
        height: of its label, with the space around it.
        inside: the number of the box around it, which is a lower one; None: there is none.
    """

    width: float
    height: float
    inside: int | None


class _Content(NamedTuple):
    """The content of one box, or of the whole drawing; positions are relative to it.

    Attributes:
        width: of all content.
        height: of all content.
        positions: of the boxes and bends.
        layers: the top and the bottom of the layer that each of them is in.
        bends: those of each edge, from the top.
    """

    width: float
    height: float
    positions: Mapping[Vertex, Box]
    layers: Mapping[Vertex, tuple[float, float]]
    bends: Mapping[Edge, Sequence[Vertex]]


def layout(items: Sequence[Item], edges: Iterable[Edge]) -> Layout:
    """Position each box and route each edge, but for edges between a box and what is in it."""
    children: dict[int | None, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        children[item.inside].append(number)
    lifted = {edge: link for edge in edges if (link := _lifted(items, edge)) is not None}
    links: dict[int | None, set[Edge]] = defaultdict(set)
    for link in lifted.values():
        links[items[link[0]].inside].add(link)
    inner: dict[int | None, _Content] = {}
    for around in sorted(children, key=lambda outer: -1 if outer is None else outer, reverse=True):
        sizes = {child: _size(items[child], inner.get(child)) for child in children[around]}
        inner[around] = _arranged(sizes, sorted(links[around]))
    boxes = _absolute(items, inner)
    paths = {edge: _path(edge, link, items, inner, boxes) for edge, link in lifted.items()}
    whole = inner.get(None, _Content(0, 0, {}, {}, {}))
    return Layout(whole.width, whole.height, boxes, paths)


def _lifted(items: Sequence[Item], edge: Edge) -> Edge | None:
    """The boxes around the ends of an edge that lie in one box; None: one is in the other."""
    above = _with_outer(items, edge[0])
    below = _with_outer(items, edge[1])
    for source in above:
        for target in below:
            if source != target and items[source].inside == items[target].inside:
                return source, target
    return None


def _with_outer(items: Sequence[Item], number: int) -> list[int]:
    found: list[int] = []
    at: int | None = number
    while at is not None:
        found.append(at)
        at = items[at].inside
    return found


def _size(item: Item, inner: _Content | None) -> tuple[float, float]:
    if inner is None:
        return item.width, item.height
    return max(item.width, inner.width + 2 * PADDING), inner.height + PADDING + HEADING


def _arranged(sizes: Mapping[int, tuple[float, float]], links: Sequence[Edge]) -> _Content:
    layers, ways = _layers(sizes, links)
    _sort(layers, chain.from_iterable(pairwise(way) for way in ways.values()))
    return _positioned(layers, sizes, {link: way[1:-1] for link, way in ways.items()})


def _layers(
    sizes: Iterable[int], links: Sequence[Edge]
) -> tuple[list[list[Vertex]], dict[Edge, list[Vertex]]]:
    """The layers from the top, and what each edge passes through, one vertex in each layer."""
    rank = dict.fromkeys(sizes, 0)
    forward = [link for link in links if link[0] < link[1]]  # recursive subflows have others
    for source, target in forward:  # sorted, so that all edges to a source came before
        rank[target] = max(rank[target], rank[source] + 1)
    layers: list[list[Vertex]] = [[] for _ in range(max(rank.values()) + 1)]
    for number, at in rank.items():
        layers[at].append(number)
    ways: dict[Edge, list[Vertex]] = {}
    for source, target in forward:
        passed = range(rank[source] + 1, rank[target])
        ways[source, target] = [source, *((source, target, at) for at in passed), target]
        for at in passed:
            layers[at].append((source, target, at))
    return layers, ways


def _sort(layers: Sequence[list[Vertex]], steps: Iterable[tuple[Vertex, Vertex]]) -> None:
    """Move each vertex to where its neighbours are, in a few sweeps down and up."""
    above: dict[Vertex, list[Vertex]] = defaultdict(list)
    below: dict[Vertex, list[Vertex]] = defaultdict(list)
    for source, target in steps:
        below[source].append(target)
        above[target].append(source)
    for _ in range(_SWEEPS):
        for layer, before in zip(layers[1:], layers, strict=False):
            _sort_by(layer, above, before)
        for layer, before in zip(layers[-2::-1], layers[::-1], strict=False):
            _sort_by(layer, below, before)


def _sort_by(
    layer: list[Vertex], neighbours: Mapping[Vertex, Sequence[Vertex]], before: Sequence[Vertex]
) -> None:
    position = {vertex: at for at, vertex in enumerate(before)}
    own = {vertex: at * len(before) / len(layer) for at, vertex in enumerate(layer)}

    def mean(vertex: Vertex) -> float:
        positions = [position[neighbour] for neighbour in neighbours.get(vertex, ())]
        return sum(positions) / len(positions) if positions else own[vertex]

    layer.sort(key=mean)


def _positioned(
    layers: Sequence[Sequence[Vertex]],
    sizes: Mapping[int, tuple[float, float]],
    bends: Mapping[Edge, Sequence[Vertex]],
) -> _Content:
    known: Mapping[Vertex, tuple[float, float]] = dict(sizes.items())
    widths = [
        sum(known.get(vertex, (_BEND_WIDTH, 0))[0] for vertex in layer) + GAP_X * (len(layer) - 1)
        for layer in layers
    ]
    positions: dict[Vertex, Box] = {}
    extents: dict[Vertex, tuple[float, float]] = {}
    y = 0.0
    for layer, width in zip(layers, widths, strict=True):
        height = max(known.get(vertex, (0, 0.0))[1] for vertex in layer)
        x = (max(widths) - width) / 2
        for vertex in layer:
            own_width, own_height = known.get(vertex, (_BEND_WIDTH, height))
            positions[vertex] = Box(x, y + (height - own_height) / 2, own_width, own_height)
            extents[vertex] = (y, y + height)
            x += own_width + GAP_X
        y += height + GAP_Y
    return _Content(max(widths), y - GAP_Y, positions, extents, bends)


def _absolute(items: Sequence[Item], inner: Mapping[int | None, _Content]) -> dict[int, Box]:
    boxes: dict[int, Box] = {}
    for number, item in enumerate(items):  # the outer ones come first
        corner = _corner(item.inside, boxes, inner)
        box = inner[item.inside].positions[number]
        boxes[number] = box._replace(x=box.x + corner.x, y=box.y + corner.y)
    return boxes


def _corner(
    around: int | None, boxes: Mapping[int, Box], inner: Mapping[int | None, _Content]
) -> Point:
    """The top left corner of the content of a box, which is centred in it."""
    if around is None:
        return Point(0.0, 0.0)
    box = boxes[around]
    return Point(box.x + (box.width - inner[around].width) / 2, box.y + HEADING)


def _path(
    edge: Edge,
    lifted: Edge,
    items: Sequence[Item],
    inner: Mapping[int | None, _Content],
    boxes: Mapping[int, Box],
) -> list[Point]:
    """From the bottom of the source to the top of the target; vertical within each layer."""
    source, target = lifted
    around = items[source].inside
    side_by_side, corner = inner[around], _corner(around, boxes, inner)
    start, end = boxes[edge[0]].bottom, boxes[edge[1]].top
    path = [start, Point(start.x, corner.y + side_by_side.layers[source][1])]
    for vertex in side_by_side.bends.get(lifted, ()):
        bend = side_by_side.positions[vertex]
        path += [corner.plus(bend.top), corner.plus(bend.bottom)]
    path += [Point(end.x, corner.y + side_by_side.layers[target][0]), end]
    return [point for point, after in pairwise([*path, start]) if point != after]
