"""Command line: parse, check the outputs, call a command, turn a user's mistake into one line and an exit status."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import tyro

from infl.commands import Demo, Forget, Import, Inspect, Plan, Plant, Predict, Report, Scores, Train, Verify
from infl.commands.outputs import check_outputs

_DESCRIPTION = (
    "If a model must forget these training examples, what happens: nothing, a local loss, or damage that spreads?"
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 2 a mistake of the user's, 130 interrupted."""
    commands = (Demo, Train, Import, Scores, Forget, Predict, Verify, Report, Plan, Plant, Inspect)
    union: Any = None
    for command in commands:
        named = Annotated[command, tyro.conf.subcommand(command.__name__.lower(), prefix_name=False)]
        union = named if union is None else union | named
    try:
        command = tyro.cli(
            union, prog="infl", description=_DESCRIPTION, args=arguments, config=(tyro.conf.FlagConversionOff,)
        )
    except SystemExit as stop:
        return int(stop.code or 0)
    from infl.records import InputError

    try:
        check_outputs(command)
        command()
    except (InputError, OSError) as error:
        print(f"infl {type(command).__name__.lower()}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what is complete is kept: run the same command again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
