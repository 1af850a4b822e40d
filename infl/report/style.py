"""One look for everything infl draws: a colour and a marker per regime, and matplotlib's settings while drawing.

There is a light theme, for paper, and a dark one, for slides and dark pages. Both take their colours from Okabe and Ito,
which are told apart by people with any kind of colour vision, and keep at least 3:1 of contrast against their ground
(4.5:1 for text). `house_style("dark")` around the calls switches; a function that draws takes the theme it finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from infl.records import InputError, Regime

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True)
class RegimeStyle:
    """How a regime is drawn: the marker alone identifies it, the colour helps. glyph: the marker as a letter."""

    color: str
    marker: str
    glyph: str


@dataclass(frozen=True)
class Theme:
    """The colours of one theme.

    Attributes:
        ground: Of the paper.
        ink: Text and what matters most.
        quiet: Second to it.
        faint: Lines to lean on.
        band: areas.
        helps, harms: The two directions of an influence.
        cycle: Series that have no meaning of their own, in order.
    """

    name: ThemeName
    ground: str
    ink: str
    quiet: str
    faint: str
    band: str
    helps: str
    harms: str
    regimes: dict[Regime, RegimeStyle]
    cycle: tuple[str, ...]

    def colors(self) -> dict[str, str]:
        """All colours by name. What has one colour in the light theme has one in the dark theme too."""
        own = {name: value for name, value in vars(self).items() if str(value).startswith("#")}
        return own | {name: style.color for name, style in self.regimes.items()}

    def settings(self) -> dict[str, Any]:
        """matplotlib's settings: those of `infl.mplstyle`, and colours."""
        from matplotlib import rc_params_from_file  # here, so that tables can use the palette without it

        return {
            **rc_params_from_file(Path(__file__).with_name("infl.mplstyle"), use_default_template=False),
            "axes.edgecolor": self.quiet,
            "axes.facecolor": self.ground,
            "axes.labelcolor": self.ink,
            "figure.facecolor": self.ground,
            "hatch.color": self.faint,
            "text.color": self.ink,
            "xtick.color": self.quiet,
            "xtick.labelcolor": self.ink,
            "ytick.color": self.quiet,
            "ytick.labelcolor": self.ink,
        }


def _regimes(no_op: str, local: str, spreading: str, indirect: str, undetermined: str) -> dict[Regime, RegimeStyle]:
    return {
        "no-op": RegimeStyle(no_op, "o", "●"),
        "local": RegimeStyle(local, "s", "■"),
        "spreading": RegimeStyle(spreading, "^", "▲"),
        "indirect": RegimeStyle(indirect, "D", "◆"),
        "undetermined": RegimeStyle(undetermined, "X", "✖"),
    }


LIGHT = Theme(
    name="light",
    ground="#FFFFFF",
    ink="#222222",
    quiet="#6B6B6B",
    faint="#C9C9C9",
    band="#E6E6E6",
    helps="#0072B2",
    harms="#D55E00",
    regimes=_regimes("#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7A7A7A"),
    cycle=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222"),
)
DARK = Theme(
    name="dark",
    ground="#15181C",
    ink="#E8E8E8",
    quiet="#A3A8AE",
    faint="#4A5058",
    band="#2B3036",
    helps="#56B4E9",
    harms="#E69F00",
    regimes=_regimes("#009E73", "#56B4E9", "#E69F00", "#CC79A7", "#9A9A9A"),
    cycle=("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#E8E8E8"),
)
THEMES: dict[str, Theme] = {"light": LIGHT, "dark": DARK}

REGIME_STYLES = LIGHT.regimes

_CURRENT: ContextVar[Theme] = ContextVar("theme", default=LIGHT)


def current_theme() -> Theme:
    """The theme of the innermost `house_style` block around; light outside of any."""
    return _CURRENT.get()


@contextmanager
def house_style(theme: ThemeName | None = None) -> Iterator[Theme]:
    """Draw in infl's style inside the `with` block; the caller's settings are back afterwards.

    Args:
        theme: `light` or `dark`; None for that of the block around, or light. Every figure of infl that is drawn in the
            block has it, and keeps it when it is saved later.

    Raises:
        InputError: for another theme.

    Examples:
        >>> import infl
        >>> with infl.plot.house_style("dark") as theme:
        ...     ax = infl.plot.regime_map([])
        >>> theme.name, ax.get_facecolor() == (0x15 / 255, 0x18 / 255, 0x1C / 255, 1.0)
        ('dark', True)
    """
    from matplotlib import rc_context

    if theme is not None and theme not in THEMES:
        raise InputError(f"theme: expected {' or '.join(get_args(ThemeName))}, got {theme!r}")
    chosen = current_theme() if theme is None else THEMES[theme]
    token = _CURRENT.set(chosen)
    try:
        # `rc_context` is typed with the literal names of all settings, which a plain dict cannot show.
        with rc_context(chosen.settings()):  # pyright: ignore[reportArgumentType]
            yield chosen
    finally:
        _CURRENT.reset(token)
