"""Lets docstrings of infl be read as Markdown.

Lines `name: what it is`, one a parameter or field, become a list; `Example:` becomes the section of code that it is.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ARGUMENTS = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+): (?P<rest>\S.*)$")  # within Args
_ENTRY = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<rest>\S.*)$")


class ParameterLists(griffe.Extension):
    """Rewrites the docstring of every object before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each module, class and function."""
        if obj.docstring:
            obj.docstring.value = as_lists(obj.docstring.value, known=_names(obj))


def as_lists(text: str, *, known: set[str]) -> str:
    """The text with a list item for each line that begins with names of `known`; lines indented under it belong to it."""
    lines, inside = [], False
    for line in text.splitlines():
        line = "Examples:" if line == "Example:" else line
        if (several := _ARGUMENTS.match(line)) and set(several["names"].split(", ")) <= known:
            lines += [f"{several['indent']}{name}: {several['rest']}" for name in several["names"].split(", ")]
            continue
        entry = _ENTRY.match(line)
        if entry and set(entry["names"].split(", ")) <= known:
            if not inside and lines and lines[-1]:
                lines.append("")
            names = ", ".join(f"`{name}`" for name in entry["names"].split(", "))
            # Several entries may stand on one line: `masks: [T, n]; columns: a slice.`
            lines.append(f"- {names}: {_split(entry['rest'], known)}")
            inside = True
        elif inside and line.startswith("    "):
            lines.append(f"  {_split(line.strip(), known)}")
        else:
            if inside and line.strip():
                lines.append("")
            inside = inside and not line.strip()
            lines.append(line)
    return "\n".join(lines)


def _split(rest: str, known: set[str]) -> str:
    """Names in the middle of a line, each on a line of its own."""

    def another(found: re.Match[str]) -> str:
        return f"{found[1]}\n- `{found[2]}`: " if found[2] in known else found[0]

    return re.sub(r"([.;]) (\w+): ", another, rest)


def _names(obj: Any) -> set[str]:
    """Parameters of a function; fields of a class."""
    names = set(obj.members) if obj.is_class or obj.is_module else set()
    if obj.is_function:
        names = {parameter.name for parameter in obj.parameters}
    return names
