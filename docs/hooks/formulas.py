"""Turns the formulas of a page from LaTeX into MathML, which browsers show by themselves: no script is fetched for it."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', re.DOTALL)

# Signs that the converter takes for letters or operators of another kind, or that few fonts have.
_REPAIRS = {
    "<mi>&#x029F5;</mi>": "<mo>\\</mo>",  # difference of sets
    "<mi>&#x0007E;</mi>": "<mo>&#x0223C;</mo>",  # is distributed as
    "<mo>&#x02205;</mo>": "<mi>&#x02205;</mi>",  # the empty set
    '<mo stretchy="false">&#x0007C;</mo>': '<mo stretchy="false" lspace="0" rspace="0">&#x0007C;</mo>',  # size of
}


def on_page_content(content: str, **_: Any) -> str:
    """The page with MathML in it."""
    content = _INLINE.sub(lambda found: _mathml(found[1], "inline"), content)
    return _DISPLAY.sub(lambda found: f'<div class="formula">{_mathml(found[1], "block")}</div>', content)


def _mathml(latex: str, display: str) -> str:
    formula = convert(html.unescape(latex).strip(), display=display)
    for written, meant in _REPAIRS.items():
        formula = formula.replace(written, meant)
    return formula
