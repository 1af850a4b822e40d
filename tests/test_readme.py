"""What the README shows is what happens: its Python prints what stands under it, its commands run as written.

Numbers are compared within a little, since the last digits of a trained network differ from machine to machine; words exactly.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import infl.pipeline.train
from infl.__main__ import main
from tests.commands import call
from tests.pages import ROOT, blocks, commands_in, follow

README = (ROOT / "README.md").read_text()


def code(language):
    return [block for _, block in blocks(README, language)]


def ten_lines(block, output):
    lines, shown = code("python")[block], code("text")[output]
    assert len([line for line in lines.splitlines() if line and not line.startswith("import")]) <= 10
    return lines, shown


@pytest.mark.slow
def test_the_ten_lines_print_what_stands_under_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines, shown = ten_lines(0, 0)
    printed = follow(f"```python\n{lines}```\n```text\n{shown}```\n", capsys, close=(0.15, 0.1))
    assert len(printed.splitlines()) == len(shown.splitlines())


@pytest.mark.slow
def test_the_ten_lines_for_a_language_model_run(tmp_path, monkeypatch, capsys):
    """For 2 epochs, so that it takes seconds: as many lines on the same chapters and quantities as after all epochs."""
    quick = replace(infl.Algorithm.default("documents"), epochs=2)
    monkeypatch.setattr(infl.Algorithm, "default", lambda kind: quick)
    monkeypatch.chdir(tmp_path)
    lines, shown = ten_lines(2, 1)
    exec(compile(lines, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == len(shown.splitlines())
    words = [re.findall("[A-Z][a-z]+ [0-9]+|measured|self|cross", text) for text in (printed, shown)]
    assert words[0] == words[1]


def test_a_network_of_ones_own_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def init(key, x):
        return jnp.zeros((x[0].size, 10))

    def apply(params, x):
        return x.reshape(len(x), -1) @ params

    real_train = infl.pipeline.train.train
    monkeypatch.setattr(infl.pipeline.train, "train", lambda *a, **k: real_train(*a, n_models=4, n_references=2, **k))
    names = {"init": init, "apply": apply, "data": infl.load("digits", n_train=60, n_held_out=20), "infl": infl}
    exec(compile(code("python")[1], "README.md", "exec"), names)
    assert {name: names["run"].complete(name) for name in ("design", "grouped")} == {
        "design": [0, 1],
        "grouped": [0, 1],
    }


@pytest.mark.slow
def test_the_commands_run_as_written(tmp_path, monkeypatch, capsys):
    """On fewer digits and models, trained for 2 epochs, so that it takes seconds."""
    monkeypatch.chdir(tmp_path)
    Path("forget.json").write_text('{"my set": [3, 14, 159]}')
    np.savez("published.npz", tr_mem=np.arange(200) / 200)
    masks = np.arange(1, 64)[:, None] >> np.arange(6) & 1 == 1
    np.savez("outcomes.npz", masks=masks, correct=np.c_[masks, masks], labels=np.arange(12) % 2)
    commands = [words for block in code("bash") for words in commands_in(block)]
    named = "train scores predict verify report inspect plan import merge"
    assert {words[0] for words in commands} >= set(named.split())
    for arguments in commands:
        if arguments[0] == "train":
            smaller = {"1000": "30", "0:500": "0:10"}
            arguments = [smaller.get(a, a) for a in arguments] + ["--n-references", "6", "--epochs", "2"]
            arguments += ["--n-train", "200", "--n-held-out", "100"] * ("digits" in arguments)
        if arguments[0] == "verify":
            arguments += ["--n-models", "6"]
        assert main(arguments) == 0, capsys.readouterr().err


def test_every_file_the_readme_points_at_is_there():
    targets = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(
        r"`(tests/[^`]+|experiments/[^`]+|infl/[^`]+)`", README
    )
    for target in targets:
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "shown", "second_and_third"),
    [
        ("demo --n-models 32 --n-references 8", ("highest memorization 10", "class 8"), ["forget", "predict"]),
        ("demo text --n-models 16 --n-references 2", ("both of each pair", "Psalm 136"), ["forget", "verify"]),
    ],
)
def test_the_demo_ends_with_its_page_and_with_commands_that_run(
    line, shown, second_and_third, tmp_path, monkeypatch, capsys
):
    """Language models are trained for 2 epochs, so that it takes seconds."""
    quick = replace(infl.Algorithm.default("documents"), epochs=2)
    monkeypatch.setattr(infl.Algorithm, "default", lambda kind: quick if kind == "documents" else infl.Algorithm())
    monkeypatch.chdir(tmp_path)
    call(line)
    said = capsys.readouterr().out
    page = Path(re.findall(r"^page: (.+)$", said, re.M)[0])
    assert all(one in page.read_text() for one in shown)
    commands = [line.strip() for line in said.partition("three to try:")[2].splitlines() if line]
    assert [line.split()[1] for line in commands] == ["scores", *second_and_third]
    for [words] in map(commands_in, commands):
        call(shlex.join(words).replace("--n-models 16", "--n-models 2"))


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment_without_the_checkout(tmp_path):
    def run(*command, **settings):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, **settings)

    pip = (sys.executable, "-m", "pip")
    if run(*pip, "download", "--no-deps", "--dest", "reached", "hatchling").returncode:
        pytest.skip("no package index can be reached")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", "dist", str(ROOT), check=True)
    (wheel,) = (tmp_path / "dist").glob("infl-*.whl")
    run(sys.executable, "-m", "venv", "empty", check=True)
    run("empty/bin/pip", "install", str(wheel), check=True)
    where = run("empty/bin/python", "-c", "import infl; print(infl.__file__)", check=True)
    assert where.stdout.startswith(str(tmp_path / "empty"))
    assert "usage: infl COMMAND" in run("empty/bin/infl", "--help", check=True).stdout
    tiny = "digits --n-train 60 --n-held-out 30 --n-models 4 --n-references 2 --epochs 1 --run run"
    trained = run("empty/bin/infl", "train", *tiny.split(), check=True)
    assert "Next: infl scores --run run" in trained.stdout
    run("empty/bin/infl", "report", "--run", "run", check=True)  # with the files that are no Python
    assert (tmp_path / "run/report.html").stat().st_size > 10_000


def test_the_citation_names_the_version_and_the_authors_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (infl.__version__, project["license"])
    assert cited["authors"] == project["authors"]
