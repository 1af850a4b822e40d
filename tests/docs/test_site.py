"""The site builds without a warning, holds every public name, command and experiment, and needs no network to be read.

A reader who opens it from a folder, years from now and offline, must find all of it.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import infl
from infl.cli import COMMANDS
from tests.pages import ROOT, loaded

pytest.importorskip("mkdocs")
pytestmark = pytest.mark.slow


class Fetched(HTMLParser):
    """What a browser loads by itself when it opens the page; links that wait for a click are not."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        loads = tag == "link" and given.get("rel") not in ("canonical", "prev", "next")
        for name in ("src", "srcset", *(["href"] if loads else [])):
            if given.get(name):
                self.addresses.append(str(given[name]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # No network: a proxy that nobody listens on.
    closed = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | closed | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    return folder


def pages(site: Path) -> list[Path]:
    return sorted(page for page in site.rglob("*.html") if page.name != "404.html")


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    assert len(pages(site)) > 15
    for page in pages(site):
        seen = Fetched()
        seen.feed(page.read_text())
        assert seen.addresses
        for address in seen.addresses:
            assert not re.match(r"(https?:)?//", address), (page.name, address)
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text()), style.name


def test_what_a_page_loads_is_there_and_no_id_comes_twice(site: Path) -> None:
    for page in pages(site):
        seen = Fetched()
        seen.feed(page.read_text())
        for address in seen.addresses:
            if not address.startswith("data:"):
                assert (page.parent / address.partition("#")[0].partition("?")[0]).exists(), (page.name, address)
        twice = {one for one in seen.ids if seen.ids.count(one) > 1}
        assert not twice, (page.name, twice)


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    reference = "".join((site / "reference" / f"{name}.html").read_text() for name in ("python", "records"))
    documented = set(re.findall(r'id="infl\.([\w.]+)"', reference))
    shown = set(re.findall(r"^::: infl\.(\w+)", _sources(), re.MULTILINE))
    for name in set(infl.__all__) - {"__version__"}:
        assert name in shown, f"{name} is public and has no place in docs/reference"
    assert len(documented) > len(shown)  # members of classes have entries of their own


def _sources() -> str:
    return "".join((ROOT / "docs/reference" / f"{name}.md").read_text() for name in ("python", "records"))


def test_every_command_is_in_the_reference(site: Path) -> None:
    hook = loaded("docs/hooks/commands.py")
    page = html.unescape((site / "reference/commands.html").read_text())
    for name in COMMANDS:
        assert f'id="infl-{name}"' in page, name
        assert all(text in page for text in hook.help_texts(name))


def test_every_experiment_is_there_with_its_figures(site: Path) -> None:
    readmes = sorted((ROOT / "experiments").glob("*/README.md"))
    assert readmes
    for readme in readmes:
        page = (site / "experiments" / readme.parent.name / "index.html").read_text()
        shown = re.sub(r"```.*?```|`[^`\n]*`", "", readme.read_text(), flags=re.DOTALL)
        assert page.count("<img ") == len(re.findall(r"!\[|<img\s", shown)), readme
        assert f'href="{readme.parent.name}/index.html"' in (site / "experiments/index.html").read_text()


def test_formulas_are_shown_without_a_script(site: Path) -> None:
    for name in ("concepts", "methods"):
        page = (site / f"{name}.html").read_text()
        assert page.count("<math") > 5
        assert "arithmatex" not in page
        assert "$$" not in page
