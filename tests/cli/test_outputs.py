"""Whatever a command writes is checked before it begins: a place that cannot be written costs a second, not the training.

Commands are run as a user would, with everything but the place of one output in order. To begin at all is then a failure,
and so is the least change on disk.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import infl
from infl.__main__ import main
from infl.cli import COMMANDS
from tests.commands import contents

DATA = "digits --n-train 60 --n-held-out 30"
SMALL = "--epochs 1 --hidden 4 --design uniform --n-models 2 --n-references 1"
# What each command needs; outputs among it are replaced by the test.
CALLS = {
    "demo": {"--run": "{run}"},
    "train": {"": f"{DATA} {SMALL}", "--run": "{new}"},
    "scores": {"--run": "{run}"},
    "compare": {"": "{run} {run}"},
    "predict": {"--run": "{run}", "--forget": "{forget}"},
    "verify": {"--run": "{run}", "--forget": "{forget}"},
    "decide": {"--run": "{run}", "--forget": "{forget}", "--budget": "8"},
    "unlearn": {"--run": "{run}", "--forget": "{forget}", "--method": "fine-tune"},
    "evaluate": {"--run": "{run}", "--forget": "{forget}"},
    "report": {"--run": "{run}", "--out": "{new}.npz"},
    "plan": {"": f"{DATA} --epochs 1 --hidden 4"},
    "inspect": {"--run": "{run}"},
    "merge": {"": "{new} {run}"},
    "import": {"": "{forget}", "--run": "{new}"},
    "forget": {"": f"random {DATA} --size 3", "--out": "{new}.json"},
    "tokenize": {"": "{forget}", "--out": "{new}.json"},
    "plant": {"": f"flipped {DATA} --n-examples 3", "--out": "{new}.npz", "--forget": "{new}.json"},
}
WRITTEN = {
    "demo": "--json --run",
    "train": "--json --run",
    "scores": "--json --arrays --matrix --table --feldman-zhang --tokens",
    "compare": "--figure --json",
    "merge": "--json",
    "import": "--json --run",
    "predict": "--json --effects",
    "verify": "--json --effects",
    "decide": "--json",
    "unlearn": "--json",
    "evaluate": "--json",
    "report": "--out --json",
    "plan": "--json",
    "inspect": "--json",
    "forget": "--out --json",
    "plant": "--out --forget",
    "tokenize": "--out",
}
READ = {
    "import": "--file",
    "merge": "--run --shards",
    "train": "--groups --cover",
    "scores": "--run",
    "predict": "--run --forget",
    "verify": "--run --forget",
    "decide": "--run --forget",
    "unlearn": "--run --forget",
    "evaluate": "--run --forget --models",
    "report": "--run --forget",
    "plan": "--run",
    "inspect": "--run",
    "forget": "--run",
    "tokenize": "--texts",
}
OUTPUTS = [(command, option) for command, options in WRITTEN.items() for option in options.split()]


@pytest.fixture(scope="module")
def places(small_run: infl.Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("places")
    shutil.copytree(small_run.folder, folder / "run")
    (folder / "forget.json").write_text(json.dumps({"a": [1, 2]}))
    (folder / "file").write_text("mine")
    return {"run": folder / "run", "forget": folder / "forget.json", "new": folder / "new"}


def command_class(name: str) -> type:
    return getattr(import_module(f"infl.cli.{COMMANDS[name][0]}"), name.capitalize())


def words_of(command: str, places: dict[str, Path], changed: dict[str, object]) -> list[str]:
    words = [command]
    for option, given in (CALLS[command] | changed).items():
        words += [option] * bool(option) + str(given).format(**places).split()
    return words


def assert_refused_at_once(
    command: str, option: str, place: Path, said: str, places: dict[str, Path], monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(command_class(command), "__call__", lambda _: pytest.fail(f"{command} has begun"))
    before = contents(places["run"].parent)
    assert main(words_of(command, places, {option: place})) == 2
    captured = capsys.readouterr()
    # Of two paths that cannot be written either may be named.
    either = (place, places["new"], f"{places['new']}.json")
    assert captured.err in [f"infl {command}: {path}{said}\n" for path in either]
    assert captured.out == ""
    assert contents(places["run"].parent) == before


@pytest.mark.parametrize(
    ("command", "option", "place", "said"),
    [
        ("scores", "--json", "no/where/x.json", "No such file or directory"),
        ("scores", "--json", "run", "Is a directory"),
        ("scores", "--json", "file/x.npz", "Not a directory"),
        ("scores", "--json", "x" * 300, "File name too long"),
        ("train", "--run", "file/run", "Not a directory"),
        ("train", "--run", "file/a/run", "Not a directory"),
        ("train", "--run", "x" * 300, "File name too long"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_command_begins(
    command: str, option: str, place: str, said: str, places: dict[str, Path], monkeypatch: Any, capsys: Any
) -> None:
    path, said = places["run"].parent / place, f": cannot be written: {said}"
    assert_refused_at_once(command, option, path, said, places, monkeypatch, capsys)


@pytest.mark.parametrize(("command", "option"), OUTPUTS)
def test_a_folder_that_may_not_be_written_to_is_refused_before_the_command_begins(
    command: str, option: str, places: dict[str, Path], monkeypatch: Any, capsys: Any
) -> None:
    """Root may write anywhere, so the system's answer is played."""
    locked, access = places["run"].parent, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and access(path, mode))
    said = ": cannot be written: Permission denied"
    assert_refused_at_once(command, option, locked / "new.npz", said, places, monkeypatch, capsys)


@pytest.mark.parametrize(("command", "option", "place"), [("plant", "--out", "forget"), ("scores", "--matrix", "run")])
def test_what_is_made_anew_is_not_there_yet(
    command: str, option: str, place: str, places: dict[str, Path], monkeypatch: Any, capsys: Any
) -> None:
    said = " exists already; choose another name, nothing is overwritten"
    assert_refused_at_once(command, option, places[place], said, places, monkeypatch, capsys)


def test_a_file_that_is_there_is_written_over_where_it_alone_may_be(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/stdout is such a file."""
    (tmp_path / "there.json").write_text("old")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    assert main(words_of("inspect", places, {"--json": tmp_path / "there.json"})) == 0
    assert json.loads((tmp_path / "there.json").read_text())["collections"]
    assert main(words_of("inspect", places, {"--json": "/dev/null"})) == 0


def test_a_file_may_lie_in_the_run_folder_that_the_command_makes(places: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "deep" / "new"
    assert main(words_of("train", places, {"--run": run, "--json": run / "train.json"})) == 0
    assert json.loads((run / "train.json").read_text())["collections"]["design"]["complete"] == 2


def test_every_option_that_takes_a_path_is_known_to_be_read_or_written() -> None:
    """A new one that is written belongs into WRITTEN, where these tests find it."""
    found = set()
    for name in COMMANDS:
        hints = get_type_hints(command_class(name))
        hints |= get_type_hints(hints["output"]) if "output" in hints else {}
        for option, hint in hints.items():
            if Path in (hint, *get_args(hint)) or option in ("run", "shards"):  # a folder, or a URL
                found.add((name, f"--{option.replace('_', '-')}"))
    assert found == {(name, option) for name, options in READ.items() for option in options.split()} | set(OUTPUTS)
