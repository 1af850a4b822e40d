"""From the records of a run to one HTML file that a colleague can open, with everything in it and nothing fetched.

It opens with the answer in sentences; then come the forget sets, the scores, and how the models were made. What users name
(data, classes, forget sets) is text everywhere: it is escaped, no script or style holds any of it, and a content security
policy in the page allows its own style and script by their hashes and nothing else.

    content    the records that a page is made of
    figures    its drawings: figures of `infl.plot` as inline SVG
    views      its cards, galleries and tables
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
from infl.report import text
from infl.report.page import views
from infl.report.page.content import HarmedExample as HarmedExample
from infl.report.page.content import PageContent as PageContent
from infl.report.page.content import ScoreContent as ScoreContent
from infl.report.page.content import SetContent as SetContent
from infl.report.page.figures import Drawings
from infl.report.page.pictures import Pictures


def render_page(content: PageContent, *, n_top: int = 60) -> str:
    """The page as HTML.

    Args:
        n_top: Memorized examples in the table.

    Raises:
        InputError: where the sets were judged by different thresholds, or an example is none of the data.
    """
    dataset, scores = content.dataset, content.scores
    sets = sorted(content.sets, key=lambda one: one.predicted is None)  # in the order of the map and of tables
    thresholds = text.common_thresholds([verdict for one in sets for verdict in one.verdicts])
    pictures, drawings = Pictures(dataset), Drawings()
    unit = "" if scores is None else text.unit(dataset, scores.memorization.outcome)
    examples, memorized_table = [], ""
    if scores is not None:
        examples, memorized_table = views.memorized(scores, dataset, pictures, n_top)
    pairs_table = views.pairs_table(scores, dataset, pictures) if scores is not None and scores.pairs else ""
    # Last: they take the room that is left for pictures.
    n_pictures = pictures.affordable(2 * len(sets), most=views.MAX_EXAMPLES_OF_A_SET)
    cards = [views.card(one, dataset, pictures, n_pictures) for one in sets]
    lead, regimes, sure = text.answer([one.best for one in sets])
    set_map = drawings.map(sets) if sets else ""
    histogram = drawings.histogram(scores.memorization) if examples and scores is not None else ""
    graph = drawings.graph(scores.graph, dataset) if scores is not None and scores.graph else ""
    style, script = f"{drawings.css()}{_text('page.css')}\n{pictures.css()}", _text("page.js")
    return _template().render(
        name=Path(dataset.name).name or dataset.name,
        dataset=dataset,
        lead=lead,
        regimes=[(views.badge(regime), sentence) for regime, sentence in regimes],
        sure=sure,
        accuracy=text.accuracy_lines(content.accuracy) if content.accuracy else [],
        thresholds=text.thresholds_sentence(thresholds),
        others=text.others_sentence([one.best for one in sets]),
        map=set_map,
        cards=cards,
        set_table=views.set_table(sets) if sets else "",
        scores=scores,
        unit=unit,
        certainty=[] if scores is None else views.certainty_facts(scores, unit),
        histogram=histogram,
        graph=graph,
        gallery=examples[: views.IN_GALLERY],
        n_memorized=len(examples),
        memorized_table=memorized_table,
        pairs_table=pairs_table,
        pairs_found=sum(pair.q <= 0.05 for pair in scores.pairs) if scores else 0,
        settings=text.run_facts(content.description),
        picture=views.picture,
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


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_text("page.html.jinja"))


def _text(name: str) -> str:
    return (files("infl.report.page") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline style or script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
