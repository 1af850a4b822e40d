"""What the README shows is what happens: its Python prints what stands under it, its commands run as written.

Numbers are compared within a little, since the last digits of a trained network differ from machine to machine; words exactly.
"""

import re
import shlex
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import infl.pipeline
from infl.__main__ import main

README = (Path(__file__).parents[1] / "README.md").read_text()
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_ten_lines_print_what_stands_under_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, shown = blocks("python")[0], blocks("text")[0]
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 10
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert NUMBER.sub("N", printed) == NUMBER.sub("N", shown)
    for mine, theirs in zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True):
        assert float(mine) == pytest.approx(float(theirs), rel=0.15, abs=0.1)


def test_a_network_of_ones_own_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def init(key, x):
        return jnp.zeros((x[0].size, 10))

    def apply(params, x):
        return x.reshape(len(x), -1) @ params

    real_train = infl.pipeline.train
    monkeypatch.setattr(infl.pipeline, "train", lambda *a, **k: real_train(*a, n_models=4, n_references=2, **k))
    names = {"init": init, "apply": apply, "data": infl.load("digits", n_train=60, n_held_out=20), "infl": infl}
    exec(compile(blocks("python")[1], "README.md", "exec"), names)
    assert {name: names["run"].complete(name) for name in ("design", "grouped")} == {
        "design": [0, 1],
        "grouped": [0, 1],
    }


def test_the_commands_run_as_written(tmp_path, monkeypatch, capsys):
    """On fewer models, so that it takes seconds."""
    monkeypatch.chdir(tmp_path)
    Path("forget.json").write_text('{"my set": [3, 14, 159]}')
    masks = np.arange(64)[:, None] >> np.arange(6) & 1 == 1
    np.savez("outcomes.npz", masks=masks, correct=np.c_[masks, masks], labels=np.arange(12) % 2)
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("infl ")]
    assert {line.split()[1] for line in commands} >= {
        "train",
        "scores",
        "predict",
        "verify",
        "report",
        "inspect",
        "plan",
        "import",
    }
    for line in commands:
        arguments = shlex.split(line, comments=True)[1:]
        if arguments[0] == "train":
            arguments = [a if a != "1000" else "30" for a in arguments] + ["--references", "6"]
        if arguments[0] == "verify":
            arguments += ["--models", "6"]
        assert main(arguments) == 0, capsys.readouterr().err


def test_every_file_the_readme_points_at_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(
        r"`(tests/[^`]+|experiments/[^`]+|infl/[^`]+)`", README
    )
    for target in targets:
        if not target.startswith("http"):
            assert (Path(__file__).parents[1] / target).exists(), target
