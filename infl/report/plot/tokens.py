"""Turns effects on the tokens of a document into a picture: its text, in which one sees what is memorized."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from rich.cells import cell_len

from infl.records import Dataset, InputError, TokenEffects
from infl.report.plot.canvas import axes_or_new
from infl.report.style import current_theme, house_style
from infl.report.text import class_of, count, place_of, shorten

_SIZE = 8.5  # of letters, in points
_LETTER = 0.602 * _SIZE / 72  # width of one in DejaVu Sans Mono, inches
_LINE = 0.44  # height of a line with its bars, inches
_COLUMNS = 92
_BARS, _SHADE, _BASE = (0.5, 0.06), (0.56, 0.94), 0.75  # within a line, downwards: bars from 0 to 1, shading, text


class _Piece(NamedTuple):
    """Where a piece of the text stands: line, first column, width, and its tokens."""

    text: str
    line: int
    x: int
    width: int
    tokens: range


def tokens(effects: TokenEffects, dataset: Dataset, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw a document as text, each token with what untraining S changes on it.

    Above a token stands a bar from 0 to 1: grey is the fraction of models without S that predict it, blue what models with S
    predict on top of that, orange what those without S do; the whisker is one standard error. The token is shaded
    alike, pale where the effect is within two errors. Tokens that are not scored have neither. Lines break between words.

    Args:
        effects: As `infl.pipeline.tokens.token_effects` measures them.
        dataset: The documents.
        title: Over the text; None for one that says what is shown.
        ax: axes to draw on; new ones of the size it takes where None (reach the figure by `.figure`).

    Raises:
        InputError: where the effects are not those of a document of the dataset.
    """
    pieces = dataset.pieces(effects.column) if dataset.is_documents and effects.column < dataset.n_columns else []
    if sum(n_tokens for _, n_tokens in pieces) != len(effects.effect):
        raise InputError(
            f"tokens: expected the effects on a document of this data, got those on {count(len(effects.effect), 'token')} of "
            f"#{effects.column}; pass the dataset that the models were trained on"
        )
    placed = _lines(pieces, _COLUMNS)
    n_lines = placed[-1].line + 1
    with house_style() as theme:
        ax = axes_or_new(ax, _COLUMNS * _LETTER + 0.1, n_lines * _LINE + 0.62)
        ax.set(xlim=(0, _COLUMNS), ylim=(n_lines, 0))
        ax.set_axis_off()
        for piece in placed:
            scored = bool(np.isfinite(effects.effect[piece.tokens.start : piece.tokens.stop]).any())
            color = theme.ink if scored else theme.quiet
            style = {"family": "monospace", "size": _SIZE, "color": color, "va": "center", "parse_math": False}
            ax.text(piece.x, piece.line + _BASE, piece.text, **style)
            for k, token in enumerate(piece.tokens):
                width = piece.width / len(piece.tokens)
                _draw_effect(ax, effects, token, piece.x + k * width, width, piece.line)
        handles = [
            Patch(color=theme.faint, label="predicted without the set too"),
            Patch(color=theme.helps, label="lost with it"),
            Patch(color=theme.harms, label="gained"),
            Line2D([], [], color=theme.ink, marker="|", linestyle="", markersize=8, label="± one standard error"),
        ]
        shown = [one for one in handles if one.get_label() != "gained" or (effects.effect < 0).any()]
        ax.legend(
            handles=shown, loc="upper left", bbox_to_anchor=(-0.01, 0), ncols=4, borderaxespad=0.3, handlelength=1.2
        )
        itself = effects.forget_set.ids == (effects.column,)
        what = "itself" if itself else shorten(effects.forget_set.name, 30)
        usual = (
            f"{place_of(dataset, effects.column)}, {shorten(class_of(dataset, effects.column), 30)}, with and without {what}: "
            f"{np.nanmean(effects.effect):.2f} of {count(int(np.isfinite(effects.effect).sum()), 'token')}"
        )
        ax.set_title(usual if title is None else title, parse_math=False)
    return ax


def _draw_effect(ax: Axes, effects: TokenEffects, token: int, x: float, width: float, line: int) -> None:
    effect, se, without = (float(array[token]) for array in (effects.effect, effects.se, effects.mean_without))
    if not np.isfinite(effect):
        return
    theme, (zero, one) = current_theme(), _BARS
    color = theme.helps if effect >= 0 else theme.harms
    strength = 0.6 * abs(effect) * (1 if abs(effect) > 2 * se else 0.35)
    gap = 0.12 if width >= 0.8 else 0

    def rectangle(bottom: float, top: float, color: object) -> None:
        ax.add_patch(Rectangle((x + gap / 2, line + bottom), width - gap, top - bottom, color=color, linewidth=0))

    def height(fraction: float) -> float:
        return zero + (one - zero) * min(max(fraction, 0.0), 1.0)

    rectangle(
        *_SHADE,
        tuple((1 - strength) * a + strength * b for a, b in zip(to_rgb(theme.ground), to_rgb(color), strict=True)),
    )
    rectangle(zero, height(1), theme.band)
    rectangle(zero, height(min(without, without + effect)), theme.faint)
    rectangle(height(without), height(without + effect), color)
    ends = [line + height(without + effect + side * se) for side in (-1, 1)]
    ax.plot([x + width / 2] * 2, ends, color=theme.ink, linewidth=0.7, solid_capstyle="butt")


def _lines(pieces: list[tuple[str, int]], columns: int) -> list[_Piece]:
    """Pieces in lines of so many columns, broken before a word, or anywhere in one that is longer than a line."""
    words: list[list[tuple[str, str, int]]] = [[]]
    for text, n_tokens in pieces:
        shown = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.replace("\t", " "))
        if words[-1] and (shown[:1].isspace() or words[-1][-1][0][-1:].isspace()):
            words.append([])
        words[-1].append((shown, shown.strip(" ").replace("\n", "↵") or " ", n_tokens))
    placed, line, x, first = list[_Piece](), 0, 0, 0
    for word in words:
        if x and x + sum(cell_len(shown.rstrip(" ")) for shown, _, _ in word) > columns:
            line, x = line + 1, 0
        for shown, drawn, n_tokens in word:
            drawn = shorten(drawn, columns)
            before = len(shown) - len(shown.lstrip(" ")) if drawn != " " and x else 0
            if x + before + cell_len(drawn) > columns:
                line, x, before = line + 1, 0, 0
            placed.append(_Piece(drawn, line, x + before, cell_len(drawn), range(first, first + n_tokens)))
            x += before + cell_len(drawn) + (len(shown) - len(shown.rstrip(" ")) if drawn != " " else 0)
            first += n_tokens
            if "\n" in shown:
                line, x = line + 1, 0
    return placed
