"""Pictures of flows: their tasks and subflows, and the results that these take of each other.

A picture is plain data, from which Mermaid and SVG are made on demand.
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
    """The graph of a flow; notebooks display it.

    Attributes:
        name: of the flow.
        nodes: in the order of the calls; the number of a node is its index here.
        edges: the numbers of two nodes, of which the second takes the result of the first, or
            waits for it.
    """

    name: str
    nodes: Sequence[Node]
    edges: Sequence[tuple[int, int]]

    @property
    def labels(self) -> list[str]:
        """The text on each node: its name, with a number where several have the same name."""
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
        """The text in Mermaid's notation, which GitHub and others draw."""
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
        """The text of an SVG image, which needs no other files."""
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
        """Write it to a file, in the form of its suffix: `.svg`, or `.mmd` and `.md` for Mermaid.

        Raises:
            ConfigurationError: there is no form for this suffix.
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
                f"save(): path must end in one of {', '.join(forms)}, not {path.name!r}."
            )
        path.write_text(forms[path.suffix.lower()](), encoding="utf-8")
        return path


def _quoted(text: str) -> str:
    """The text as it can stand between Mermaid's quotation marks: in one line."""
    return " ".join(text.translate(_ENTITIES).split())
