"""Where the boxes of a graph are drawn: in layers from top to bottom, boxes inside boxes.

A box lies below all those that lead to it. Within a layer the boxes are sorted by where their
neighbours lie; an edge that passes layers by bends where it goes through them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

Slot: TypeAlias = Hashable
"""What has a place in a layer: the number of a box, or the bend of an edge."""
Edge: TypeAlias = tuple[int, int]

GAP_X, GAP_Y = 24.0, 44.0
"""Between two boxes of a layer, and between two layers."""
PADDING, HEADING = 16.0, 30.0
"""Around what is in a box, and the room for its label."""
_BEND_WIDTH = 8.0
_SWEEPS = 4


class Point(NamedTuple):
    """A place, from the top left."""

    x: float
    y: float

    def plus(self, other: Point) -> Point:
        """As far from here as the other is from the top left."""
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
    """A graph that has its places.

    Attributes:
        width: of all of it.
        height: of all of it.
        boxes: by number; what is inside of another lies within it.
        paths: the points that each edge goes through.
    """

    width: float
    height: float
    boxes: Mapping[int, Box]
    paths: Mapping[Edge, Sequence[Point]]


class Item(NamedTuple):
    """A box that has no place yet.

    Attributes:
        width: of its label, with the space around that.
        height: the same.
        inside: the number of the box that it lies in, which is a smaller one; None: in none.
    """

    width: float
    height: float
    inside: int | None


class _Inside(NamedTuple):
    """What lies in one box, or in none; its places are relative.

    Attributes:
        width: of all of it.
        height: of all of it.
        places: of the boxes and bends.
        rows: the upper and the lower end of the layers that they are in.
        bends: those of each edge, from above.
    """

    width: float
    height: float
    places: Mapping[Slot, Box]
    rows: Mapping[Slot, tuple[float, float]]
    bends: Mapping[Edge, Sequence[Slot]]


def layout(items: Sequence[Item], edges: Iterable[Edge]) -> Layout:
    """Give each box its place, and each edge its path; none between a box and what is in it."""
    children: dict[int | None, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        children[item.inside].append(number)
    lifted = {edge: link for edge in edges if (link := _lifted(items, edge)) is not None}
    links: dict[int | None, set[Edge]] = defaultdict(set)
    for link in lifted.values():
        links[items[link[0]].inside].add(link)
    inner: dict[int | None, _Inside] = {}
    for around in sorted(children, key=lambda outer: -1 if outer is None else outer, reverse=True):
        sizes = {child: _size(items[child], inner.get(child)) for child in children[around]}
        inner[around] = _arranged(sizes, sorted(links[around]))
    boxes = _absolute(items, inner)
    paths = {edge: _path(edge, link, items, inner, boxes) for edge, link in lifted.items()}
    whole = inner.get(None, _Inside(0, 0, {}, {}, {}))
    return Layout(whole.width, whole.height, boxes, paths)


def _lifted(items: Sequence[Item], edge: Edge) -> Edge | None:
    """The two boxes around the ends of an edge that lie side by side; None: one is in the other."""
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


def _size(item: Item, inner: _Inside | None) -> tuple[float, float]:
    if inner is None:
        return item.width, item.height
    return max(item.width, inner.width + 2 * PADDING), inner.height + PADDING + HEADING


def _arranged(sizes: Mapping[int, tuple[float, float]], links: Sequence[Edge]) -> _Inside:
    layers, ways = _layers(sizes, links)
    _sort(layers, chain.from_iterable(pairwise(way) for way in ways.values()))
    return _placed(layers, sizes, {link: way[1:-1] for link, way in ways.items()})


def _layers(
    sizes: Iterable[int], links: Sequence[Edge]
) -> tuple[list[list[Slot]], dict[Edge, list[Slot]]]:
    """The layers from the top, and the slots, one in each layer, that the edges go through."""
    rank = dict.fromkeys(sizes, 0)
    forward = [link for link in links if link[0] < link[1]]  # a cycle of subflows has others
    for source, target in forward:  # sorted, so all that leads to a source came before it
        rank[target] = max(rank[target], rank[source] + 1)
    layers: list[list[Slot]] = [[] for _ in range(max(rank.values()) + 1)]
    for number, at in rank.items():
        layers[at].append(number)
    ways: dict[Edge, list[Slot]] = {}
    for source, target in forward:
        passed = range(rank[source] + 1, rank[target])
        ways[source, target] = [source, *((source, target, at) for at in passed), target]
        for at in passed:
            layers[at].append((source, target, at))
    return layers, ways


def _sort(layers: Sequence[list[Slot]], steps: Iterable[tuple[Slot, Slot]]) -> None:
    """Put each slot where its neighbours are, going down and up a few times."""
    above: dict[Slot, list[Slot]] = defaultdict(list)
    below: dict[Slot, list[Slot]] = defaultdict(list)
    for source, target in steps:
        below[source].append(target)
        above[target].append(source)
    for _ in range(_SWEEPS):
        for layer, before in zip(layers[1:], layers, strict=False):
            _sort_by(layer, above, before)
        for layer, before in zip(layers[-2::-1], layers[::-1], strict=False):
            _sort_by(layer, below, before)


def _sort_by(
    layer: list[Slot], neighbours: Mapping[Slot, Sequence[Slot]], before: Sequence[Slot]
) -> None:
    place = {slot: at for at, slot in enumerate(before)}
    own = {slot: at * len(before) / len(layer) for at, slot in enumerate(layer)}

    def mean(slot: Slot) -> float:
        places = [place[neighbour] for neighbour in neighbours.get(slot, ())]
        return sum(places) / len(places) if places else own[slot]

    layer.sort(key=mean)


def _placed(
    layers: Sequence[Sequence[Slot]],
    sizes: Mapping[int, tuple[float, float]],
    bends: Mapping[Edge, Sequence[Slot]],
) -> _Inside:
    known: Mapping[Slot, tuple[float, float]] = dict(sizes.items())
    widths = [
        sum(known.get(slot, (_BEND_WIDTH, 0))[0] for slot in layer) + GAP_X * (len(layer) - 1)
        for layer in layers
    ]
    places: dict[Slot, Box] = {}
    rows: dict[Slot, tuple[float, float]] = {}
    y = 0.0
    for layer, width in zip(layers, widths, strict=True):
        height = max(known.get(slot, (0, 0.0))[1] for slot in layer)
        x = (max(widths) - width) / 2
        for slot in layer:
            own_width, own_height = known.get(slot, (_BEND_WIDTH, height))
            places[slot] = Box(x, y + (height - own_height) / 2, own_width, own_height)
            rows[slot] = (y, y + height)
            x += own_width + GAP_X
        y += height + GAP_Y
    return _Inside(max(widths), y - GAP_Y, places, rows, bends)


def _absolute(items: Sequence[Item], inner: Mapping[int | None, _Inside]) -> dict[int, Box]:
    boxes: dict[int, Box] = {}
    for number, item in enumerate(items):  # the outer ones come first
        corner = _corner(item.inside, boxes, inner)
        place = inner[item.inside].places[number]
        boxes[number] = place._replace(x=place.x + corner.x, y=place.y + corner.y)
    return boxes


def _corner(
    around: int | None, boxes: Mapping[int, Box], inner: Mapping[int | None, _Inside]
) -> Point:
    """Where the inside of a box begins, in whose middle it is."""
    if around is None:
        return Point(0.0, 0.0)
    box = boxes[around]
    return Point(box.x + (box.width - inner[around].width) / 2, box.y + HEADING)


def _path(
    edge: Edge,
    lifted: Edge,
    items: Sequence[Item],
    inner: Mapping[int | None, _Inside],
    boxes: Mapping[int, Box],
) -> list[Point]:
    """From below the source to above the target; straight down in a layer, curved between two."""
    source, target = lifted
    around = items[source].inside
    side_by_side, corner = inner[around], _corner(around, boxes, inner)
    start, end = boxes[edge[0]].bottom, boxes[edge[1]].top
    path = [start, Point(start.x, corner.y + side_by_side.rows[source][1])]
    for slot in side_by_side.bends.get(lifted, ()):
        bend = side_by_side.places[slot]
        path += [corner.plus(bend.top), corner.plus(bend.bottom)]
    path += [Point(end.x, corner.y + side_by_side.rows[target][0]), end]
    return [point for point, after in pairwise([*path, start]) if point != after]
