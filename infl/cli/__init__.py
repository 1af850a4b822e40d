"""The command line: what each command takes, calls and prints.

A command is a dataclass; tyro makes its options of the fields, and of those of `Algorithm`, `Design`, `Layout`, `Ray` and
`Thresholds`, with their documentation. A module is imported when one of its commands is named, so that `infl --help` and a
mistyped command answer at once.

- `training`  train, plan: they take a design and an algorithm;
- `runs`      import, merge, inspect: they take runs as they are;
- `scores`    scores, of all examples or of one, and compare;
- `sets`      forget, plant, tokenize: they make forget sets, and data to train on;
- `verdicts`  predict, verify, decide, report;
- `unlearning` unlearn, evaluate;
- `demo`      demo, which does all, of digits or of text;
- `options`   options that several commands take, and how they are read;
- `outputs`   what commands write, checked before they run;
- `printing`  tables and lines for people.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from importlib import import_module
from io import StringIO
from typing import Annotated, Any, Union

# Name of each command: its module, and what it does.
COMMANDS = {
    "demo": ("demo", "all of it on handwritten digits, or on text, in a few minutes"),
    "train": ("training", "train models on random subsets of a data set, or go on with a run"),
    "scores": ("scores", "which examples are memorized, and who influences whom"),
    "compare": ("scores", "do two runs, or a run and a file of scores, agree?"),
    "forget": ("sets", "make a forget set of some kind"),
    "predict": ("verdicts", "predict what untraining forget sets does"),
    "verify": ("verdicts", "measure it by retraining without each set"),
    "decide": ("verdicts", "predict all sets, and retrain without the undetermined ones within a budget"),
    "unlearn": ("unlearning", "unlearn them by a method, in many models"),
    "evaluate": ("unlearning", "say whether unlearned models untrain them, or unlearn their concept"),
    "report": ("verdicts", "one HTML page of a run, to send to a colleague"),
    "plan": ("training", "models, time and disk for a wanted precision"),
    "plant": ("sets", "plant wrong labels, copies, patches or rare examples, to be forgotten"),
    "tokenize": ("sets", "train a tokenizer for documents, on others than those"),
    "inspect": ("runs", "what a run holds, and whether the disk still has it"),
    "merge": ("runs", "join shards of a run"),
    "import": ("runs", "make a run of outcomes of models trained elsewhere"),
}
# Those of which a run keeps what is complete when they are stopped.
GOES_ON = ("demo", "train", "verify", "decide", "unlearn", "inspect", "merge")
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
    return (
        f"there is no command {name!r}: {_hint(name, COMMANDS)}" if name else f"name a command: {', '.join(COMMANDS)}"
    )


def _hint(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word.lower(), known, 1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"


def parse(name: str, options: list[str]) -> Any:
    """The command of that name with those options, to be called.

    Raises:
        InputError: where a setting is out of its range, or there is no such option or kind; the nearest one is named.
        SystemExit: where help was asked for, or options cannot be read; what there is to say has been printed.
    """
    command: Any
    module = import_module(f"infl.cli.{COMMANDS[name][0]}")
    if kinds := getattr(module, "KINDS", {}).get(name):
        name, command, options = _command_of_kind(name, kinds, options)
    else:
        command = getattr(module, name.capitalize())
        command = getattr(command, "continuing", lambda _: command)(options)
    said = StringIO()
    try:
        with redirect_stderr(said):
            return _read(command, name, options)
    except SystemExit as stop:
        if stop.code:
            _raise_own(stop)
            _check_options(command, name, options)
        sys.stderr.write(said.getvalue())
        raise


def _read(command: Any, name: str, options: list[str]) -> Any:
    import tyro

    from infl.cli.options import REGISTRY

    config = (tyro.conf.DisallowNone, tyro.conf.HelptextFromCommentsOff)
    return tyro.cli(command, prog=f"infl {name}", args=options, registry=REGISTRY, config=config)


def _command_of_kind(name: str, kinds: dict[str, Any], options: list[str]) -> tuple[str, Any, list[str]]:
    """Name, command and options of the kind that comes first; the command of all kinds, for its help, without one."""
    import tyro

    from infl.records import InputError

    if options and options[0] in kinds:
        return f"{name} {options[0]}", kinds[options[0]], options[1:]
    if options and not {"-h", "--help"} & set(options):
        if options[0].startswith("-"):
            later = [word for word in options if word in kinds] or list(kinds)
            raise InputError(f"the kind comes first: infl {name} {later[0]} ...")
        raise InputError(f"there is no kind {options[0]!r}: {_hint(options[0], kinds)}")
    named = (Annotated[one, tyro.conf.subcommand(kind, prefix_name=False)] for kind, one in kinds.items())
    return name, Union[tuple(named)], options  # pyright: ignore  # noqa: UP007


def _check_options(command: Any, name: str, options: list[str]) -> None:
    """Raise where an option is none of those that the command's help names."""
    from infl.records import InputError

    text = StringIO()
    with suppress(SystemExit), redirect_stdout(text):
        _read(command, name, ["--help"])
    known = re.findall(r"--[a-z][\w.-]*\w", text.getvalue())
    asked = [word.partition("=")[0] for word in options if re.match("--[A-Za-z]", word)]
    if unknown := [word for word in asked if word.replace("_", "-") not in known]:
        if (argument := unknown[0].strip("-").upper()) in re.findall(
            r"\b[A-Z]+\b", text.getvalue().partition("\n\n")[0]
        ):
            raise InputError(f"{argument} is named without an option: infl {name} {argument} ...")
        near = nearest_option(unknown[0], known)
        hint = f"did you mean {near}?" if near else f"infl {name} --help lists them"
        raise InputError(f"there is no option {unknown[0]}: {hint}")


def nearest_option(asked: str, known: Iterable[str]) -> str | None:
    """The option that is meant: the command's own go before those of a group, as `--ray.cpus`, which need not be named.

    Examples:
        >>> [nearest_option(asked, ["--ray.cpus", "--learning-rate"]) for asked in ("--cpu", "--lr", "--what")]
        ['--ray.cpus', '--learning-rate', None]
    """
    word, names = asked.strip("-").lower().replace("_", "-"), dict[str, str]()
    for option in sorted(known, key=lambda option: "." not in option):
        own = option.strip("-")
        names |= {own: option, own.rpartition(".")[2]: option}
    initials = {"".join(part[0] for part in re.split("[.-]", own)): option for own, option in names.items()}
    near = get_close_matches(word, names, 1)
    return names[near[0]] if near else initials.get(word)


def _raise_own(error: BaseException) -> None:
    """Raise what a setting itself said was wrong with it, from which tyro made a box."""
    from infl.records import InputError

    cause = error.__context__
    while cause is not None:
        if isinstance(cause, InputError):
            raise cause from None
        cause = cause.__context__
