"""The page says what the records say, fetches nothing, and shows whatever users named as text.

A name can do harm only by becoming something else than text, and then the page has another skeleton: other elements, or
elements with other attributes. So the skeleton of a page with hostile names must be that of the same page with harmless ones.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from infl.records import Array, Dataset, Estimate
from infl.report.page import PageContent, render_page
from infl.report.page.pictures import Pictures

VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Elements in order with their attributes, the text of each by class or tag, and what was left open."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.parts: dict[str, list[list[str]]] = {}
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        self.texts = {tag: ["".join(parts) for parts in texts] for tag, texts in self.parts.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.parts.setdefault(tag, []).append([])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.parts[tag][-1].append(data)
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


def named(dataset: Dataset, *, name: str, classes: tuple[str, ...]) -> Dataset:
    return replace(dataset, name=name, source=f"idx:/{name}", class_names=classes)


@pytest.fixture
def content(make_page_content: Callable[..., PageContent]) -> PageContent:
    return make_page_content()


def test_the_page_is_well_formed_and_in_one_file(content: PageContent) -> None:
    page = Page(render_page(content))
    assert page.open == []
    assert len([tag for tag, _ in page.elements if tag in ("html", "head", "body", "main", "style", "script")]) == 6
    ids = page.attributes("id")
    assert len(set(ids)) == len(ids)
    for name in ("href", "src", "srcset", "action", "formaction", "poster", "data", "xlink:href", "background"):
        for value in page.attributes(name):
            assert value == "data:," or (value.startswith("#") and value[1:] in ids), (name, value)
    urls = re.findall(r"url\(([^)]{0,30})", page.texts["style"][0])
    assert urls
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    assert "@import" not in page.texts["style"][0]


def test_the_policy_allows_this_style_and_script_and_nothing_else(content: PageContent) -> None:
    page = Page(render_page(content))
    (policy,) = [a["content"] or "" for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.texts[kind][0].encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert not [
        name for _, attributes in page.elements for name in attributes if name == "style" or name.startswith("on")
    ]


SVG = re.compile(r'<svg class="figure".*?</svg>', re.DOTALL)


def test_hostile_names_are_text(
    make_page_content: Callable[..., PageContent], dataset: Dataset, hostile_names: tuple[str, ...]
) -> None:
    harmless = tuple(f"name {k}" for k in range(8))
    hostile = make_page_content(hostile_names, named(dataset, name=hostile_names[0], classes=hostile_names[1:4]))
    harmless = make_page_content(harmless, named(dataset, name="data", classes=("class 1", "class 2", "class 3")))
    html = render_page(hostile)
    page = Page(SVG.sub("", html))
    assert page.skeleton == Page(SVG.sub("", render_page(harmless))).skeleton
    assert set(hostile_names) <= set(page.texts["bdi"])
    # Which names find room on a map depends on their length, but not what it is made of.
    allowed = {"svg", "g", "defs", "path", "use", "text", "a", "title", "clippath", "rect"}
    for svg in SVG.findall(html):
        drawn = Page(svg)
        assert drawn.open == []
        assert {tag for tag, _ in drawn.elements} <= allowed
        assert not [name for _, attributes in drawn.elements for name in attributes if name.startswith(("on", "style"))]
        assert all(href.startswith("#") for href in drawn.attributes("href"))
    # Style and script hold no name at all.
    for kind in ("style", "script"):
        assert not any(word in page.texts[kind][0] for word in ("alert", "onerror", "onload", "display:none", "7*7"))


def test_no_path_is_on_the_page(make_page_content: Callable[..., PageContent], dataset: Dataset) -> None:
    content = make_page_content(data=replace(dataset, name="/home/me/mine.npz", source="/home/me/mine.npz"))
    about = {**content.description, "folder": "/home/me/run", "imported": "/home/me/mine.npz"}
    assert "/home" not in render_page(replace(content, description=about))


def test_it_opens_with_the_answer(content: PageContent) -> None:
    page = Page(render_page(content))
    said = " ".join(page.texts["header"][0].split())
    assert "8 forget sets, 7 measured by retraining without them, the others predicted." in said
    assert "2 sets: the set is lost, and others lose as much as the threshold or more, net of what they gain." in said
    assert "Regimes are named with probability 0.91." in said
    assert page.texts["h2"] == [
        "Forget sets",
        "Scores of single examples",
        "How the models were made",
    ]


def test_verdicts_stand_in_the_table_and_on_their_card(content: PageContent) -> None:
    page = Page(render_page(content))
    rows = {row[1].strip(): row for row in page.rows if len(row) == 12}
    assert [cell.strip() for cell in rows["ten"]] == [
        *("1", "ten", "1", "spreading", "spreading", "yes", "0.91"),
        *("0.93 ± 0.02", "0.75 ± 0.05", "0.30 ± 0.04", "0.20 ± 0.03", "balanced"),  # measured, where it was
    ]
    assert [cell.strip() for cell in rows["only predicted"]][4:9] == ["–", "–", "0.91", "0.10 ± 0.02", "0.10 ± 0.05"]
    assert [cell.strip() for cell in rows["only measured"]][3:6] == ["–", "local", "–"]
    assert [cell.strip() for cell in rows["unknown"]][7:9] == ["–", "0.55 ± 0.05"]
    cards = [text for text in page.texts["details"] if "In the set" in text]
    assert len(cards) == 8
    # 95%: 0.90 and 0.93, 1.96 times 0.02 to either side.
    assert "0.90 (0.86 to 0.94)" in cards[0]
    assert "0.93 (0.89 to 0.97)" in cards[0]
    assert "0.52 ± 0.07 measured" in cards[0]
    assert "0.41 ± 0.10 predicted" in cards[0]
    assert "retraining without it 32 times" in cards[0]
    assert "predicted, 95%" not in cards[7]  # measured alone, so last


def test_scores_stand_in_their_tables(content: PageContent, memorization: Estimate) -> None:
    page = Page(render_page(content))
    best = int(np.nanargmax(memorization.value))
    row = next(row for row in page.rows if len(row) == 9 and row[1] == str(best))
    value, se = memorization.value[best], memorization.se[best]
    assert row[4:] == [
        *(f"{value:.2f} ± {se:.2f}", f"{value - 0.08:.2f} to {value + 0.07:.2f}", "0.031", "1,434", "614"),
    ]
    ids = [int(row[1]) for row in page.rows if len(row) == 9 and row[1] != "id"]
    assert ids == np.argsort(-memorization.value).tolist()[:37]  # three have no estimate
    pairs = [row for row in page.rows if len(row) == 6][1:]
    assert pairs[0][3:] == ["0.75 ± 0.05", "0.63 to 0.84", "<1e−12"]
    assert pairs[1][1:] == ["harms →", pairs[1][2], "−0.25 ± 0.04", "−0.33 to −0.17", "0.02"]
    assert "Of these 2 the models at hand find 2 at" in page.texts["main"][0]
    words = dict(zip(page.texts["dt"], page.texts["dd"], strict=True))
    assert words["Network"] == "mlp 256"
    assert words["Models of random subsets"] == "2,048"
    assert words["Models of D without one of 1 forget set"] == "32"
    assert words["Seconds of training"] == "64 on 2 × cpu"
    assert words["Training examples"].startswith("3 not ranked: fewer than two models")
    assert words["Smallest memorization detectable"].startswith("0.21 at median noise, at worst 0.40 (power 0.8")
    assert words["Standard error of memorization"].startswith(f"{np.nanmedian(memorization.se):.3f} at the median")


def decoded(pictures: Pictures, column: int) -> Array:
    (uri,) = re.findall(rf"\.x{column}\{{background-image:url\(data:image/png;base64,([^)]*)\)", pictures.css())
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))))


@pytest.mark.parametrize("shape", [(40, 7, 9), (40, 7, 9, 1), (40, 7, 9, 3)])
def test_pictures_are_the_pixels(dataset: Dataset, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)
    for given in (pixels, pixels.astype(np.float32) / 255):
        pictures = Pictures(replace(dataset, x_train=given, x_held_out=given[:20]))
        assert not pictures.turned
        assert pictures.class_of(12) == pictures.class_of(12) == "x12"
        pictures.class_of(45)
        assert pictures.css().count("background-image") == 2
        np.testing.assert_array_equal(decoded(pictures, 12), pixels[12].squeeze())
        np.testing.assert_array_equal(decoded(pictures, 45), pixels[5].squeeze())  # held out


def test_strokes_are_turned_large_images_made_small_and_what_is_no_image_becomes_bars(dataset: Dataset) -> None:
    def shown(column: int, **changed: Array) -> Array:
        pictures = Pictures(replace(dataset, **changed))
        pictures.class_of(column)
        return decoded(pictures, column)

    np.testing.assert_allclose(shown(1), 255 * (1 - dataset.x_train[1]), atol=0.51)  # light strokes on a dark ground
    wide = np.zeros((40, 300, 100, 3), np.uint8)
    assert shown(0, x_train=wide, x_held_out=wide[:20]).shape == (64, 21, 3)
    for n_features in (1, 5, 200):
        values = np.tile(np.arange(n_features, dtype=np.float32) + 1, (40, 1))
        heights = (shown(0, x_train=values, x_held_out=values[:20]) < 255).sum(axis=0)
        assert heights.max() == 32
        assert (np.diff(heights[heights > 0]) >= 0).all()


def test_without_pixels_scores_or_sets_the_page_says_so(
    make_page_content: Callable[..., PageContent], dataset: Dataset
) -> None:
    blank = replace(dataset, x_train=np.zeros((40, 0)), x_held_out=np.zeros((20, 0)))
    page = Page(render_page(make_page_content(data=blank)))
    assert "no pixels" in page.texts["main"][0]
    assert "background-image" not in page.texts["style"][0]
    page = Page(render_page(make_page_content(scores=None, sets=())))
    assert "no models of random subsets" in page.texts["main"][0]
    assert "infl verify --run" in page.texts["main"][0]
    assert page.open == []


def test_a_page_of_many_examples_shows_as_many_as_it_can_bear(
    make_page_content: Callable[..., PageContent], dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise, which no encoding makes smaller, in more pictures than the page may hold; every set keeps one."""
    monkeypatch.setattr("infl.report.page.pictures.MAX_PICTURE_BYTES", 100_000)
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    content = make_page_content(data=replace(dataset, x_train=images[:40], x_held_out=images[40:]), scores=None)
    ids = iter(range(40))
    sets = []
    for one in content.sets:
        forget_set = replace(one.best.forget_set, ids=tuple(next(ids) for _ in range(5)))
        verdicts = [verdict and replace(verdict, forget_set=forget_set) for verdict in (one.predicted, one.measured)]
        sets.append(replace(one, predicted=verdicts[0], measured=verdicts[1]))
    page = Page(render_page(replace(content, sets=sets)))
    shown = re.findall(r"url\(([^)]*)\)", page.texts["style"][0])
    assert sum(map(len, shown)) <= 1.05 * 100_000
    assert len(shown) >= 8
