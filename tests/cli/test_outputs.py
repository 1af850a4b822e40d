"""Whatever a command writes is checked before it begins: a place that cannot be written costs a second, not the training.

Commands are run as a user would, with everything but the place of one output in order. To begin at all is then a failure,
and so is the least change on disk.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from infl.__main__ import main
from infl.cli import COMMANDS

DATA = ["digits", "--n-train", "60", "--n-held-out", "30"]
SMALL = ["--epochs", "1", "--hidden", "4", "--design", "uniform", "--n-models", "2", "--n-references", "1"]
# What each command needs; outputs among it are replaced by the test.
CALLS = {
    "demo": {"--run": "{run}"},
    "train": {"": [*DATA, *SMALL], "--run": "{run}"},
    "scores": {"--run": "{run}"},
    "predict": {"--run": "{run}", "--forget": "{forget}"},
    "verify": {"--run": "{run}", "--forget": "{forget}"},
    "report": {"--run": "{run}", "--out": "{new}.npz"},
    "plan": {"": [*DATA, "--epochs", "1", "--hidden", "4"]},
    "inspect": {"--run": "{run}"},
    "merge": {"": ["{new}", "{run}"]},
    "import": {"": ["{forget}"], "--run": "{new}"},
    "forget": {"": ["random", *DATA, "--size", "3"], "--out": "{new}.json"},
    "plant": {"": ["flipped", *DATA, "--n-examples", "3"], "--out": "{new}.npz", "--forget": "{new}.json"},
}
OUTPUTS = [
    ("demo", "--json"),
    ("demo", "--run"),
    ("train", "--json"),
    ("train", "--run"),
    ("scores", "--json"),
    ("scores", "--arrays"),
    ("scores", "--matrix"),
    ("scores", "--table"),
    ("scores", "--feldman-zhang"),
    ("merge", "--json"),
    ("import", "--json"),
    ("import", "--run"),
    ("predict", "--json"),
    ("predict", "--effects"),
    ("verify", "--json"),
    ("verify", "--effects"),
    ("report", "--out"),
    ("report", "--json"),
    ("plan", "--json"),
    ("inspect", "--json"),
    ("forget", "--out"),
    ("plant", "--out"),
    ("plant", "--forget"),
]
FILES = [(command, option) for command, option in OUTPUTS if option != "--run"]
READ = {
    ("import", "--file"),
    ("merge", "--run"),
    ("merge", "--shards"),
    ("train", "--groups"),
    ("train", "--cover"),
    ("scores", "--run"),
    ("predict", "--run"),
    ("predict", "--forget"),
    ("verify", "--run"),
    ("verify", "--forget"),
    ("report", "--run"),
    ("report", "--forget"),
    ("plan", "--run"),
    ("inspect", "--run"),
    ("forget", "--run"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("places")
    assert main(["train", *DATA, *SMALL, "--run", str(folder / "run")]) == 0
    (folder / "forget.json").write_text(json.dumps({"a": [1, 2]}))
    (folder / "file").write_text("mine")
    return {"{run}": folder / "run", "{forget}": folder / "forget.json", "{new}": folder / "new"}


def command_class(name: str) -> type:
    return getattr(import_module(f"infl.cli.{COMMANDS[name][0]}"), name.capitalize())


def arguments_of(command: str, places: dict[str, Path], **changed: str) -> list[str]:
    def placed(word: str) -> str:
        for name, place in places.items():
            word = word.replace(name, str(place))
        return word

    arguments = [command]
    for option, value in (CALLS[command] | {f"--{name}": place for name, place in changed.items()}).items():
        arguments += [*([option] if option else []), *map(placed, value if isinstance(value, list) else [value])]
    return arguments


def all_below(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused_at_once(
    command: str, option: str, place: Path, said: str, places: dict[str, Path], monkeypatch: Any, capsys: Any
) -> None:
    def begun(_: Any) -> None:
        raise AssertionError(f"{command} has begun though {option} cannot be written")

    monkeypatch.setattr(command_class(command), "__call__", begun)
    before = all_below(places["{run}"].parent)
    assert main(arguments_of(command, places, **{option.removeprefix("--"): str(place)})) == 2
    captured = capsys.readouterr()
    # Of two paths that cannot be written either may be named.
    assert captured.err in {f"infl {command}: {place}{said}\n", f"infl {command}: {places['{new}']}{said}\n"}
    assert captured.out == ""
    assert all_below(places["{run}"].parent) == before


@pytest.mark.parametrize(
    ("command", "option", "place", "said"),
    [
        *(
            (command, option, place, said)
            for command, option in FILES
            for place, said in (
                ("no/where/x.npz", "No such file or directory"),
                ("run", "Is a directory"),
                ("file/x.npz", "Not a directory"),
                ("x" * 300, "File name too long"),
            )
        ),
        *(
            (command, "--run", place, said)
            for command in ("demo", "train", "import")
            for place, said in (
                ("file/run", "Not a directory"),
                ("file/a/run", "Not a directory"),
                ("x" * 300, "File name too long"),
            )
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_command_begins(
    command: str,
    option: str,
    place: str,
    said: str,
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, said = places["{run}"].parent / place, f": cannot be written: {said}"
    if (option, place) == ("--matrix", "run"):  # a folder is what it would have made
        said = " exists already; choose another name, nothing is overwritten"
    assert_refused_at_once(command, option, path, said, places, monkeypatch, capsys)


@pytest.mark.parametrize(("command", "option"), OUTPUTS)
def test_a_folder_that_may_not_be_written_to_is_refused_before_the_command_begins(
    command: str,
    option: str,
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Root may write anywhere, so the system's answer is played."""
    locked, access = places["{run}"].parent, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and access(path, mode))
    said = ": cannot be written: Permission denied"
    assert_refused_at_once(command, option, locked / "new.npz", said, places, monkeypatch, capsys)


def test_a_file_to_be_made_anew_is_not_there_yet(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = places["{forget}"], " exists already; choose another name, nothing is overwritten"
    assert_refused_at_once("plant", "--out", path, said, places, monkeypatch, capsys)


def test_a_file_that_is_there_is_written_over_where_it_alone_may_be(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/dev/stdout is such a file."""
    (tmp_path / "there.json").write_text("old")
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    assert main(arguments_of("inspect", places, json=str(tmp_path / "there.json"))) == 0
    assert json.loads((tmp_path / "there.json").read_text())["collections"]
    assert main(arguments_of("inspect", places, json="/dev/null")) == 0


def test_a_file_may_lie_in_the_run_folder_that_the_command_makes(places: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "deep" / "new"
    assert main(arguments_of("train", places, run=str(run), json=str(run / "train.json"))) == 0
    assert json.loads((run / "train.json").read_text())["collections"]["design"]["complete"] == 2


def test_every_option_that_takes_a_path_is_known_to_be_read_or_written() -> None:
    """A new one that is written belongs into OUTPUTS, where these tests find it."""
    found = set()
    for name in COMMANDS:
        hints = get_type_hints(command_class(name))
        hints |= get_type_hints(hints["output"]) if "output" in hints else {}
        for option, hint in hints.items():
            if Path in (hint, *get_args(hint)) or option in ("run", "shards"):  # a folder, or a URL
                found.add((name, f"--{option.replace('_', '-')}"))
    assert found == READ | set(OUTPUTS)
