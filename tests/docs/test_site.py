"""The documentation as a site: it builds without a warning, and asks nothing of other hosts."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
LOADING = {"src", "srcset", "data", "poster"}
LOADED_BY_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]*")


class Loads(HTMLParser):
    """Collects what a page loads by itself, as opposed to what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        loading = LOADING | {"href"} if tag == "link" else LOADING
        self.addresses += [value or "" for name, value in attrs if name in loading]


def build(project: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a project as `nox -s docs` does."""
    pytest.importorskip("mkdocs", reason="the dependency group `docs` is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--config-file=.mkdocs.yml"]
    return subprocess.run(
        [*command, "--site-dir", str(site)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def copy_of_project(folder: Path) -> Path:
    """A copy of all that the site is made of."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in (".mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "src").symlink_to(ROOT / "src")
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of this project, with a guide that is in no list."""
    project = copy_of_project(tmp_path_factory.mktemp("project"))
    (project / "docs/guides/tea.md").write_text("# Make tea\n\nBoil water.\n", encoding="utf-8")
    site = tmp_path_factory.mktemp("site")
    built = build(project, site)
    assert built.returncode == 0, built.stderr
    return site


def test_a_new_guide_is_in_the_navigation_without_being_listed(site: Path) -> None:
    another = (site / "guides/retries/index.html").read_text(encoding="utf-8")
    assert re.search(r'href="\.\./tea/"[^>]*>\s*<span[^>]*>\s*Make tea', another)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    *_head, body = (site / "objects.inv").read_bytes().split(b"\n", 4)
    described = {line.partition(" ")[0] for line in zlib.decompress(body).decode().splitlines()}
    described |= {"penstock"}
    for page in (ROOT / "docs/reference").glob("*.md"):
        described.add(f"penstock.{page.stem}")
        in_tables = re.findall(r"^\| (`.*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
        names = re.findall(r"`(\w+)`", " ".join(in_tables))
        described |= {f"penstock.{page.stem}.{name}" for name in names}
    missing = {name for module in public_modules() for name in names_in(module)} - described
    assert not missing, f"write a page of docs/reference/ with `::: {min(missing)}`"


def public_modules() -> Iterator[str]:
    yield "penstock"
    for module in pkgutil.iter_modules(penstock.__path__):
        if not module.name.startswith("_"):
            yield f"penstock.{module.name}"


def names_in(module: str) -> Iterator[str]:
    """The module, and the names that it lists as public."""
    yield module
    for name in getattr(importlib.import_module(module), "__all__", ()):
        if not name.startswith("_"):
            yield f"{module}.{name}"


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    pages = list(site.rglob("index.html"))
    assert len(pages) > 20
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        foreign = [address for address in loads.addresses if "//" in address]
        assert not foreign, f"{page} loads {foreign}"
    for sheet in site.rglob("*.css"):
        assert not LOADED_BY_STYLES.findall(sheet.read_text(encoding="utf-8")), sheet


def test_broken_links_and_pages_that_nothing_lists_fail_the_build(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path / "project")
    (project / "docs/unlisted.md").write_text("# Nowhere\n", encoding="utf-8")
    with (project / "docs/index.md").open("a", encoding="utf-8") as index:
        index.write("\n[No page](no-page.md), [no heading](tutorial.md#no-heading)\n")
    built = build(project, tmp_path / "site")
    assert built.returncode != 0
    warnings = " ".join(built.stderr.split())
    assert 'not included in the "nav" configuration: - unlisted.md' in warnings
    assert "'no-page.md'" in warnings
    assert "'#no-heading'" in warnings


def test_the_readme_is_short_and_its_links_lead_to_files() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    links = LINK.findall(text)
    assert links
    assert [path for path, _anchor in links if not (ROOT / path).is_file()] == []
