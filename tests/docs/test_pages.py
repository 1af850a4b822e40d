"""Pages can be followed: every block of Python and every command on them runs, and every command that they name exists.

Start is followed as it stands, with its own numbers. The others are followed on a run small enough to take seconds: what is
tested there is that nothing on them is refused, not what comes out.
"""

from __future__ import annotations

import json
import os
import pkgutil
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import infl
from tests.pages import ROOT, blocks, commands_named, follow, loaded

PAGES = {str(path.relative_to(ROOT / "docs")): path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
FOLLOWED_ELSEWHERE = {"start.md", "data.md"}  # below, and in tests/docs/test_data_page.py
FASTEST = "how-to/verdict.md"  # stays in the first tier
SIX_WORLDS = {f"{data}-{kind}" for data in ("digits", "fashion") for kind in ("early", "fitting", "flipped")}


@pytest.fixture(scope="module")
def run_of_mine(small_digits: infl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as a reader of Start has it: trained on a file, whose name it goes by."""
    folder = tmp_path_factory.mktemp("mine")
    infl.write_npz(folder / "mine.npz", small_digits)
    data, algorithm = infl.load(str(folder / "mine.npz")), infl.Algorithm(hidden=(4,), epochs=2)
    return infl.train(data, folder / "run", n_models=40, n_references=8, algorithm=algorithm, quiet=True).folder


@pytest.fixture
def small_folder(
    small_digits: infl.Dataset, run_of_mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader has after Start, but small, in the current folder: mine.npz, forget.json and runs/mine."""
    monkeypatch.chdir(tmp_path)
    infl.write_npz("mine.npz", small_digits)
    shutil.copytree(run_of_mine, "runs/mine")
    Path("forget.json").write_text(json.dumps({"my examples": [3, 14, 15], "the first": list(range(10))}))


def quicker(words: list[str]) -> list[str]:
    """On few models. Numbers of models on a page are kept in proportion to no more than the small run can bear."""
    fewer = {"200": "40", "64": "6", "128": "8", "1000": "40", "0:100": "0:8", "100:200": "8:16"}
    words = [fewer.get(word, word) for word in words]
    if words[0] in ("train", "plan"):
        words += ["--n-references", "8", "--epochs", "2", "--hidden", "4", "--n-devices", "1"]
    return words


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == FASTEST else [pytest.mark.slow])
        for name in sorted(set(PAGES) - FOLLOWED_ELSEWHERE)
        if blocks(PAGES[name], "python") or blocks(PAGES[name], "bash")
    ],
)
@pytest.mark.usefixtures("small_folder")
def test_the_page_can_be_followed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    follow(PAGES[name], capsys, adapted=quicker, close=None)


@pytest.mark.slow
def test_start_leads_to_a_verdict_with_its_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = PAGES["start.md"]
    before, scores, after = re.split(r"## 4.*?\n|## 5.*?\n", page)
    names: dict[str, Any] = {}
    follow(before, capsys, names=names)
    follow(scores, capsys, names=names)  # which examples are memorized most, and how many models have them, may differ
    follow(after, capsys, names=names, close=(0.15, 0.1))
    assert (tmp_path / "runs/mine/report.html").stat().st_size > 50_000
    assert list(json.loads((tmp_path / "forget.json").read_text())) == [
        "my examples",
        "random 30",
        "highest memorization 20",
        "class 3",
    ]


def test_the_verdict_that_is_explained_is_one_of_start() -> None:
    [quoted] = [block for _, block in blocks(PAGES["how-to/verdict.md"], "text")]
    shown = {line.strip() for _, block in blocks(PAGES["start.md"], "text") for line in block.splitlines()}
    assert {line.strip() for line in quoted.splitlines()} <= shown


def test_figures_of_limits_stand_in_the_experiments_that_they_are_taken_from() -> None:
    number = re.compile(r"(?<![\w.,])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)")
    for section in PAGES["limits.md"].split("\n## ")[1:]:
        named = re.findall(r"experiments/(\w+)/README", section)
        if named:
            printed = "".join((ROOT / "experiments" / name / "README.md").read_text() for name in named)
            missing = set(number.findall(section)) - set(number.findall(printed))
            assert not missing, section


def test_shares_of_wrong_and_undetermined_verdicts_are_those_of_the_results() -> None:
    worlds = json.loads((ROOT / "experiments/regimes/results.json").read_text())["worlds"]

    def shares(predictor: str, what: str) -> str:
        values = [100 * parts[predictor]["by harm"][what] for name, parts in worlds.items() if name in SIX_WORLDS]
        assert len(values) == 6
        return f"{min(values):.0f} to {max(values):.0f}%"

    wrong, open_ = shares("combined-512", "wrong_of_determined"), shares("combined-512", "undetermined")
    wrong_sums, open_sums = shares("additive-512", "wrong_of_determined"), shares("additive-512", "undetermined")
    for page, said in {
        "README.md": (wrong, open_, f"{wrong_sums} wrong", f"{open_sums} undetermined"),
        "experiments/regimes/README.md": (f"{wrong} are wrong by harm", f"against {wrong_sums}"),
        "docs/limits.md": (open_, wrong_sums),
        "docs/how-to/undetermined.md": (open_,),
    }.items():
        text = " ".join((ROOT / page).read_text().split())
        for words in said:
            assert words in text, (page, words)


@cache
def options(command: str) -> set[str]:
    """Of a command, as its --help has them."""
    return set(re.findall(r"--[a-z0-9.-]+", "".join(loaded("docs/hooks/commands.py").help_texts(command))))


def test_commands_and_options_that_a_page_names_exist() -> None:
    for text in [*PAGES.values(), (ROOT / "README.md").read_text()]:
        for command, *words in commands_named(text):
            if command != "--help":
                assert {word for word in words if word.startswith("--")} <= options(command), (command, words)


def test_names_of_infl_that_a_page_names_exist() -> None:
    texts = [*PAGES.values(), (ROOT / "README.md").read_text(), (ROOT / "CONTRIBUTING.md").read_text()]
    named = {name for text in texts for name in re.findall(r"(?<![\w/.])infl(?:\.[A-Za-z_]\w*)+", text)}
    assert len(named) > 50
    for name in named:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError):
            raise AssertionError(f"a page names {name}, which is not there") from None


def test_every_block_has_a_language_that_is_tested_or_is_no_code() -> None:
    for name, text in PAGES.items():
        fences = re.findall(r"^```(\w*)$", text, re.MULTILINE)
        # console: what a command that is too long to follow printed; py: lines for a library that is not installed here.
        assert set(fences[::2]) <= {"python", "bash", "text", "json", "sh", "yaml", "console", "py"}, name
        for _, block in blocks(text, "json"):
            assert json.loads(block), name


def test_scripts_for_a_cluster_are_well_formed_and_name_options_that_exist() -> None:
    page = PAGES["how-to/cluster.md"]
    scripts, files = ([block for _, block in blocks(page, language)] for language in ("sh", "yaml"))
    assert len(scripts) == 6
    for script in scripts:
        checked = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), script
    job, cluster = map(yaml.safe_load, files)
    commands = [*scripts, job["spec"]["entrypoint"]]
    found = [words for text in commands for words in re.findall(r"\binfl (\w+)( [^\n]*)", text.replace("\\\n", " "))]
    assert [name for name, _ in found] == ["train", "merge", "train", "scores", "merge", *["train"] * 4]
    for name, rest in [*found, ("train", " ".join(re.findall(r"`(--ray\.[\w-]+)[ `]", page)))]:
        assert set(re.findall(r"(?<= )--[a-z0-9.-]+", " " + rest.split("&&")[0].rstrip('"'))) <= options(name), rest
    # A worker of infl fits on a worker of the cluster, and all that are asked for are allowed.
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    asked = dict(re.findall(r"--ray\.(cpus|n-workers) (\d+)", job["spec"]["entrypoint"]))
    assert asked["cpus"] == workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    assert int(asked["n-workers"]) == workers["maxReplicas"]
    kind = cluster["available_node_types"]["worker"]
    asked = dict(re.findall(r"--ray\.(cpus|n-workers) (\d+)", scripts[-1]))
    assert (int(asked["cpus"]), int(asked["n-workers"])) == (kind["resources"]["CPU"], kind["max_workers"])


def test_the_tasks_of_the_array_job_train_each_model_once(tmp_path: Path) -> None:
    script = next(block for _, block in blocks(PAGES["how-to/cluster.md"], "sh") if "--array" in block)
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text('infl() { echo "$@"; }\n')
    models: list[int] = []
    for task in range(first, last + 1):
        said = subprocess.check_output(
            ["bash", "-c", script], cwd=tmp_path, env=os.environ | {"SLURM_ARRAY_TASK_ID": str(task)}, text=True
        )
        assert f"--run runs/shard-{task} " in said
        models += range(*map(int, re.findall(r"--n-models (\d+):(\d+)", said)[0]))
    assert models == list(range(1000))


def test_a_page_that_shows_something_else_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    follow("```python\nprint('self 0.50')\n```\n```text\nself 0.52\n```\n", capsys, close=(0.1, 0.1))
    for shown in ("cross 0.50", "self 0.90", "self 0.50\nself 0.50"):
        with pytest.raises(AssertionError):
            follow(f"```python\nprint('self 0.50')\n```\n```text\n{shown}\n```\n", capsys, close=(0.1, 0.1))
    with pytest.raises(AssertionError):
        follow("```bash\ninfl inspect --run nowhere\n```\n", capsys)
