"""Pictures of flows: which tasks and subflows there are, and whose results they take.

A picture is plain data. Mermaid and SVG are made of it when somebody asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from penstock.exceptions import ConfigurationError

__all__ = ["Node", "Picture"]


_ENTITIES = {ord(sign): f"#{ord(sign)};" for sign in '#"<>&`'}


class Node(msgspec.Struct, frozen=True):
    """A task run or a subflow run in a picture.

    Attributes:
        name: of the task or flow.
        inside: the number of the subflow whose code called it; None: the flow itself.
        is_flow: whether it is a subflow.
        state: the name of its last state; None: it has not run.
    """

    name: str
    inside: int | None = None
    is_flow: bool = False
    state: str | None = None


class Picture(msgspec.Struct, frozen=True):
    """A flow's graph; a notebook shows it by itself.

    Attributes:
        name: of the flow.
        nodes: in the order of the calls; their numbers are their places here.
        edges: the numbers of two nodes, of which the second takes the result of the first, or
            waits for it.
    """

    name: str
    nodes: Sequence[Node]
    edges: Sequence[tuple[int, int]]

    @property
    def labels(self) -> list[str]:
        """What is written on the nodes: their names, with a number where there are several."""
        total = Counter(node.name for node in self.nodes)
        so_far: Counter[str] = Counter()
        labels: list[str] = []
        for node in self.nodes:
            many = total[node.name] > 1
            labels.append(f"{node.name}-{so_far[node.name]}" if many else node.name)
            so_far[node.name] += 1
        return labels

    @property
    def mermaid(self) -> str:
        """As text in Mermaid's notation, which GitHub and others draw."""
        children: dict[int | None, list[int]] = defaultdict(list)
        for number, node in enumerate(self.nodes):
            children[node.inside].append(number)
        labels = [_quoted(label) for label in self.labels]

        def inside(around: int | None, indent: str) -> Iterator[str]:
            for number in children[around]:
                if number in children:
                    yield f'{indent}subgraph n{number}["{labels[number]}"]'
                    yield from inside(number, f"{indent}    ")
                    yield f"{indent}end"
                else:
                    opening, closing = ("[[", "]]") if self.nodes[number].is_flow else ("[", "]")
                    yield f'{indent}n{number}{opening}"{labels[number]}"{closing}'

        import json  # imported where it is used, as few programs draw anything

        lines = ["---", f"title: {json.dumps(self.name)}", "---", "flowchart TD"]
        lines += inside(None, "    ")
        lines += (f"    n{source} --> n{target}" for source, target in self.edges)
        return "\n".join(lines) + "\n"

    @property
    def svg(self) -> str:
        """As the text of an SVG image, which needs nothing besides to be shown."""
        from penstock._drawing import svg  # as above

        return svg.drawn(
            self.name,
            [
                svg.Shape(label, node.inside, node.is_flow, node.state)
                for label, node in zip(self.labels, self.nodes, strict=True)
            ],
            self.edges,
        )

    def _repr_svg_(self) -> str:
        """For notebooks."""
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write it to a file, as its suffix says: `.svg`; `.mmd` or `.md` for Mermaid.

        Raises:
            ConfigurationError: there is no such form.
            OSError: the file cannot be written.
        """
        path = Path(path)
        forms = {
            ".svg": lambda: self.svg,
            ".mmd": lambda: self.mermaid,
            ".md": lambda: f"```mermaid\n{self.mermaid}```\n",
        }
        if path.suffix.lower() not in forms:
            raise ConfigurationError(
                f"A picture is saved as {', '.join(forms)}, by the suffix; not as {path.name!r}."
            )
        path.write_text(forms[path.suffix.lower()](), encoding="utf-8")
        return path


def _quoted(text: str) -> str:
    """The text between Mermaid's quotation marks, in one line."""
    return " ".join(text.translate(_ENTITIES).split())
