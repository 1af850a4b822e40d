"""From the records of a run to one HTML file that a colleague can open, with everything in it and nothing fetched.

What users name (data, classes, forget sets, files) is text everywhere: Jinja2 escapes it, no script or style holds any of
it, and a content security policy in the page allows its own style and script by their hashes and nothing else.

    content    the records that a page is made of
    views      the same as words, numbers and pictures in order
    charts     where the marks of its drawings lie
    pictures   examples as PNG, each in the page once
    page.html.jinja, page.css, page.js

Without JavaScript the page is plain tables, and cards that open as any HTML `details` do.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from infl.records import InputError
from infl.report.page import views
from infl.report.page.charts import SHAPES, histogram, regime_map
from infl.report.page.content import HarmedExample as HarmedExample
from infl.report.page.content import PageContent as PageContent
from infl.report.page.content import ScoreContent as ScoreContent
from infl.report.page.content import SetContent as SetContent
from infl.report.page.pictures import Pictures
from infl.report.style import REGIME_STYLES
from infl.report.text import common_thresholds


def render_page(content: PageContent, *, n_top: int = 60) -> str:
    """The page as HTML.

    Args:
        n_top: Memorized examples in the table.

    Raises:
        InputError: where the sets were judged by different thresholds, or an example is none of the data.
    """
    dataset, scores, sets = content.dataset, content.scores, content.sets
    thresholds = common_thresholds([verdict for one in sets for verdict in (one.predicted, one.measured) if verdict])
    pictures = Pictures(dataset)
    memorized = [] if scores is None else views.memorized_rows(scores, dataset, pictures, n_top=n_top)
    pairs = [] if scores is None else views.pair_rows(scores, dataset, pictures)
    cards = views.cards(sets, dataset, pictures)  # last: it takes the room that is left for pictures
    placed = regime_map(sets, thresholds) if sets else None
    colours = "".join(f".{name}{{--regime:{style.color}}}" for name, style in REGIME_STYLES.items())
    style = f"{colours}\n{_text('page.css')}\n{pictures.css()}"
    script = _text("page.js")
    template = _environment().get_template("page.html.jinja")
    return template.render(
        title=f"infl report: {dataset.name}",
        dataset=dataset,
        headline=views.headline(content),
        run_facts=views.run_facts(content),
        certainty_facts=[] if scores is None else views.certainty_facts(scores),
        histogram=None if scores is None else histogram(scores.memorization),
        scores=scores,
        memorized=memorized,
        in_gallery=views.IN_GALLERY,
        pairs=pairs,
        pairs_found=sum(pair.q <= 0.05 for pair in scores.pairs) if scores else 0,
        cards=cards,
        map=placed,
        numbered=placed is not None and any(spot.tag for spot in placed.spots),
        thresholds=views.thresholds_in_words(sets),
        cross_word="harm" if thresholds.cross == "harm" else "cross",
        shapes=SHAPES,
        regimes=[name for name in REGIME_STYLES if any(name in _regimes_of(one) for one in sets)],
        has_pictures=pictures.available,
        turned=pictures.turned,
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def write_page(content: PageContent, path: str | Path, *, n_top: int = 60) -> int:
    """Write the page as one file; returns its size in bytes.

    Raises:
        InputError: as `render_page`, and where the path cannot be written.
    """
    # A name from JSON may hold half a surrogate pair, which no file can.
    page = render_page(content, n_top=n_top).encode("utf-8", "replace")
    try:
        Path(path).write_bytes(page)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return len(page)


def _regimes_of(one: SetContent) -> set[str]:
    return {verdict.regime for verdict in (one.predicted, one.measured) if verdict}


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _text(name: str) -> str:
    return (files("infl.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
