"""What contributors are told is so: the paths and the fixtures that their pages name exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "penstock"
PAGES = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs" / "inside").glob("*.md")),
]
SPAN = re.compile(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:md|py|toml))`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
NO_PATHS = {"dist/", "zlib/json"}
"""What looks like a path and is none of this repository: what a build makes, a serializer."""


def paths_in(text: str) -> Iterator[str]:
    """The paths that a page names, but for those in its blocks."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", text)
    yield from (path for path in SPAN.findall(text) if path not in NO_PATHS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_path_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [
        path
        for path in paths_in(text)
        if not any((folder / path).exists() for folder in (ROOT, PACKAGE, page.parent))
    ]
    assert missing == []
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


def test_a_newcomer_has_twenty_questions_each_with_a_path() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, below = text.partition("## Twenty questions of a newcomer\n")
    rows = re.findall(r"^\| ([^|]+\?) \| ([^|]+) \|$", below, re.MULTILINE)
    assert len(rows) == 20
    for question, answer in rows:
        (first, *_) = paths_in(answer)
        assert (PACKAGE / first).exists(), question


def test_each_folder_of_tests_is_explained() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| `tests/(\w+)/` \|", text, re.MULTILINE))
    assert explained == {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}


def test_each_fixture_that_is_explained_exists() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    _, _, below = text.partition("## Fixtures\n")
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| `([^`]+)` \|$", below, re.MULTILINE)
    assert len(rows) > 5
    for names, path in rows:
        code = (ROOT / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^@pytest\.fixture.*\ndef {name}\(", code, re.MULTILINE), name


def test_paths_are_told_from_other_words() -> None:
    text = "`a/b.py`, `c/`, `d.md`, `e.f`, `zlib/json`, `x y/z`\n```console\n`no/path`\n```\n"
    assert list(paths_in(text)) == ["a/b.py", "c/", "d.md"]
