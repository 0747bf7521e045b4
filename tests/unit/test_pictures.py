"""Pictures: boxes lie apart, in each other and below what leads to them; all text is escaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock import Picture
from penstock._drawing.layout import Box, Edge, Item, Layout, Point, layout
from penstock.exceptions import ConfigurationError
from penstock.pictures import Node

SVG = "{http://www.w3.org/2000/svg}"
CLOSE = 1e-6


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Item], list[Edge]]:
    """Boxes in each other, and edges between those that hold none, from earlier to later ones."""
    items: list[Item] = []
    for number in range(draw(st.integers(0, 12))):
        inside = draw(st.none() | st.integers(0, number - 1)) if number else None
        items.append(Item(draw(st.floats(20, 200)), 34.0, inside))
    outer = {item.inside for item in items}
    leaves = [number for number in range(len(items)) if number not in outer]
    pairs = list(combinations(leaves, 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    return items, edges


def is_within(inner: Box, outer: Box) -> bool:
    return (
        inner.x >= outer.x - CLOSE
        and inner.y >= outer.y - CLOSE
        and inner.x + inner.width <= outer.x + outer.width + CLOSE
        and inner.y + inner.height <= outer.y + outer.height + CLOSE
    )


def lie_apart(one: Box, other: Box) -> bool:
    return (
        one.x + one.width <= other.x + CLOSE
        or other.x + other.width <= one.x + CLOSE
        or one.y + one.height <= other.y + CLOSE
        or other.y + other.height <= one.y + CLOSE
    )


@given(graphs())
def test_boxes_lie_apart_and_inside_of_what_they_belong_to(
    graph: tuple[list[Item], list[Edge]],
) -> None:
    items, edges = graph
    found = layout(items, edges)
    whole = Box(0, 0, found.width, found.height)
    assert found.boxes.keys() == set(range(len(items)))
    for number, item in enumerate(items):
        box = found.boxes[number]
        assert box.width >= item.width - CLOSE
        assert is_within(box, whole if item.inside is None else found.boxes[item.inside])
    for one, other in combinations(range(len(items)), 2):
        if items[one].inside == items[other].inside:
            assert lie_apart(found.boxes[one], found.boxes[other])


@given(graphs())
def test_edges_lead_down_from_the_lower_side_of_a_box_to_the_upper_side_of_another(
    graph: tuple[list[Item], list[Edge]],
) -> None:
    items, edges = graph
    found = layout(items, edges)
    assert found.paths.keys() == set(edges)
    for (source, target), path in found.paths.items():
        assert (path[0], path[-1]) == (found.boxes[source].bottom, found.boxes[target].top)
        if items[source].inside == items[target].inside:
            assert [point.y for point in path] == sorted(point.y for point in path)


@given(graphs())
def test_the_same_graph_is_drawn_the_same(graph: tuple[list[Item], list[Edge]]) -> None:
    assert layout(*graph) == layout(*graph)


def test_no_boxes_take_no_room() -> None:
    assert layout([], []) == Layout(0, 0, {}, {})


def test_an_edge_that_passes_a_layer_bends_around_what_is_in_it() -> None:
    items = [Item(100, 34, None)] * 3
    found = layout(items, [(0, 1), (1, 2), (0, 2)])
    passed = found.boxes[1]
    for point in found.paths[0, 2][1:-1]:
        inside = Box(point.x, point.y, 0, 0)
        assert lie_apart(inside, passed)
    assert Point(*found.paths[0, 1][0]) == found.boxes[0].bottom


def test_neighbours_are_drawn_near_each_other() -> None:
    """Two pairs whose order is crossed come out uncrossed."""
    found = layout([Item(50, 34, None)] * 4, [(0, 3), (1, 2)])
    assert found.boxes[3].x < found.boxes[2].x


def test_subflows_that_wait_for_each_other_are_drawn_all_the_same() -> None:
    """As async subflows can: a task of each takes what one of the other gave."""
    items = [Item(90, 34, inside) for inside in (None, None, 0, 1, 0)]
    found = layout(items, [(2, 3), (3, 4)])
    assert lie_apart(found.boxes[0], found.boxes[1])


def test_an_edge_between_a_box_and_what_is_in_it_is_not_drawn() -> None:
    items = [Item(90, 34, None), Item(90, 34, 0)]
    assert layout(items, [(0, 1), (1, 0), (0, 0)]).paths == {}


# Texts

NODES = [Node("load"), Node("inner"), Node("clean", 1), Node("clean", 1), Node("empty", None, True)]
PICTURE = Picture("my flow", NODES, [(0, 2), (2, 3), (3, 4)])


def test_mermaid_has_the_nodes_in_their_subflows() -> None:
    assert (
        PICTURE.mermaid
        == """\
---
title: "my flow"
---
flowchart TD
    n0["load"]
    subgraph n1["inner"]
        n2["clean-0"]
        n3["clean-1"]
    end
    n4[["empty"]]
    n0 --> n2
    n2 --> n3
    n3 --> n4
"""
    )


def test_svg_has_a_box_a_label_and_a_title_for_each_node_and_a_path_for_each_edge() -> None:
    root = ET.fromstring(PICTURE.svg)
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}rect"))) == len(NODES)
    shown = [element.text for element in root.iter(f"{SVG}text")]
    assert shown == ["my flow", "load", "inner", "clean-0", "clean-1", "empty"]
    arrows = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert len(arrows) == 3
    assert PICTURE._repr_svg_() == PICTURE.svg


def test_the_style_of_an_image_is_for_it_alone() -> None:
    style = ET.fromstring(PICTURE.svg).find(f"{SVG}style")
    assert style is not None
    assert style.text is not None
    selectors = [s for rule in re.findall(r"([^{}]+){", style.text) for s in rule.split(",")]
    assert all(selector.startswith(".penstock-picture ") for selector in selectors)
    assert 'class="penstock-picture"' in PICTURE.svg


@given(st.text(max_size=60), st.text(max_size=8))
def test_any_name_makes_a_well_formed_picture(name: str, state: str) -> None:
    picture = Picture(name, [Node(name, state=state), Node("inner", 0)], [])
    root = ET.fromstring(picture.svg.encode())
    assert len(list(root.iter(f"{SVG}rect"))) == 2
    lines = picture.mermaid.splitlines()
    assert lines[3] == "flowchart TD"
    assert re.fullmatch(r'    subgraph n0\["[^"<>&`]*"\]', lines[4])
    assert len(lines) == 7


def test_names_are_shown_and_not_obeyed() -> None:
    picture = Picture("<script>", [Node('a"]; click n0 "#x')], [])
    assert "<script>" not in picture.svg
    assert 'n0["a#34;]; click n0 #34;#35;x"]' in picture.mermaid


def test_long_names_are_cut_short_and_there_on_hover() -> None:
    root = ET.fromstring(Picture("f", [Node("x" * 200)], []).svg)
    assert [e.text for e in root.iter(f"{SVG}text")] == ["f", "x" * 39 + "…"]
    assert "x" * 200 in [e.text for e in root.iter(f"{SVG}title")]
    assert float(root.get("width", "0")) < 500


@pytest.mark.parametrize(
    ("name", "begins"), [("a.svg", "<svg "), ("a.mmd", "---\n"), ("a.MD", "```mermaid\n---\n")]
)
def test_a_picture_is_saved_as_its_suffix_says(tmp_path: Path, name: str, begins: str) -> None:
    path = PICTURE.save(str(tmp_path / name))
    assert path == tmp_path / name
    assert path.read_text(encoding="utf-8").startswith(begins)


def test_a_suffix_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"must end in one of \.svg, \.mmd, \.md, not"):
        PICTURE.save(tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []


def test_a_large_picture_is_drawn_in_little_time() -> None:
    """What took time with the square of 10,000 nodes would not end in time."""
    nodes = [Node("split"), *[Node("work")] * 10_000, Node("join")]
    edges = [(0, n) for n in range(1, 10_001)] + [(n, 10_001) for n in range(1, 10_001)]
    assert Picture("wide", nodes, edges).svg.count("<rect") == 10_002
    nodes = [Node("outer", n // 2 if n % 2 and n > 1 else None) for n in range(3_000)]
    many = Picture("subflows", nodes, [(n, n + 2) for n in range(0, 2_998, 2)])
    assert many.mermaid.count("subgraph") == many.svg.count('text-anchor="start"') > 500
