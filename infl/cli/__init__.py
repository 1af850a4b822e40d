"""The command line: what each command takes, calls and prints.

A command is a dataclass; tyro makes its options of the fields, and of those of `Algorithm`, `Design`, `Layout`, `Ray` and
`Thresholds`, with their documentation. A module is imported when one of its commands is named, so that `infl --help` and a
mistyped command answer at once.

- `training`  train, plan: they take a design and an algorithm;
- `runs`      import, merge, inspect: they take runs as they are;
- `scores`    scores, of all examples or of one;
- `sets`      forget, plant: they make forget sets;
- `verdicts`  predict, verify, report, and demo, which does all;
- `options`   options that several commands take, and how they are read;
- `outputs`   what commands write, checked before they run;
- `printing`  tables and lines for people.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stderr
from difflib import get_close_matches
from importlib import import_module
from io import StringIO
from typing import Annotated, Any, Union

# Name of each command: its module, and what it does.
COMMANDS = {
    "demo": ("verdicts", "all of it on handwritten digits, in a few minutes"),
    "train": ("training", "train models on random subsets of a data set, or go on with a run"),
    "scores": ("scores", "which examples are memorized, and who influences whom"),
    "forget": ("sets", "make a forget set of some kind"),
    "predict": ("verdicts", "predict what untraining forget sets does"),
    "verify": ("verdicts", "measure it by retraining without each set"),
    "report": ("verdicts", "one HTML page of a run, to send to a colleague"),
    "plan": ("training", "models, time and disk for a wanted precision"),
    "plant": ("sets", "plant wrong labels, copies, patches or rare examples, to be forgotten"),
    "inspect": ("runs", "what a run holds, and whether the disk still has it"),
    "merge": ("runs", "join shards of a run"),
    "import": ("runs", "make a run of outcomes of models trained elsewhere"),
}
QUESTION = (
    "If a model must forget these training examples, what happens: nothing, a local loss, or damage that spreads?"
)


def overview() -> str:
    """What `infl --help` prints."""
    lines = [f"  {name:9} {does}" for name, (_, does) in COMMANDS.items()]
    return "\n".join(
        [QUESTION, "", "usage: infl COMMAND [OPTIONS], and infl COMMAND --help for the options of one", "", *lines]
    )


def no_command(name: str) -> str:
    """What to say where that is no command."""
    near = get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
    return f"there is no command {name!r}: {hint}" if name else f"name a command: {', '.join(COMMANDS)}"


def parse(name: str, options: list[str]) -> Any:
    """The command of that name with those options, to be called.

    Raises:
        InputError: where a setting is out of its range.
        SystemExit: where help was asked for, or options cannot be read; what there is to say has been printed.
    """
    import tyro

    from infl.cli.options import REGISTRY

    command: Any
    module = import_module(f"infl.cli.{COMMANDS[name][0]}")
    if kinds := getattr(module, "KINDS", {}).get(name):
        named = (Annotated[one, tyro.conf.subcommand(kind, prefix_name=False)] for kind, one in kinds.items())
        command = Union[tuple(named)]  # pyright: ignore  # noqa: UP007
    else:
        command = getattr(module, name.capitalize())
        command = getattr(command, "continuing", lambda _: command)(options)
    said = StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(
                command,
                prog=f"infl {name}",
                args=options,
                registry=REGISTRY,
                config=(tyro.conf.DisallowNone, tyro.conf.HelptextFromCommentsOff),
            )
    except SystemExit as stop:
        if stop.code:
            _raise_own(stop)
        sys.stderr.write(said.getvalue())
        raise


def _raise_own(error: BaseException) -> None:
    """Raise what a setting itself said was wrong with it, from which tyro made a box."""
    from infl.records import InputError

    cause = error.__context__
    while cause is not None:
        if isinstance(cause, InputError):
            raise cause from None
        cause = cause.__context__
