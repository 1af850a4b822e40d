"""Commands on a run of documents: texts where images have pictures, words that fit, and others that are held out."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

import infl
from infl.__main__ import main
from infl.cli.training import Train
from infl.report.tables import memorization_table, pairs_table
from infl.report.text import accuracy_lines, excerpt


def call(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints, which speaks of no pixels, images, classes or labels."""
    assert main(line.split()) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert not [word for word in ("pixel", "image", "class", "label", "digit") if word in printed], printed
    return printed


def test_forgetting_a_group_is_judged_on_held_out_documents(
    documents_run: infl.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cross is (n/m) sum of D_k over H / |S|, predicted and measured, as effects on all columns say."""
    run = tmp_path / "run"
    shutil.copytree(documents_run.folder, run)
    call(f"forget group --run {run} --name Bo --out {tmp_path}/bo.json", capsys)
    asked = (
        f"--run {run} --forget {tmp_path}/bo.json --json {tmp_path}/bo-verdict.json --effects {tmp_path}/effects.npz"
    )
    printed = call(f"verify {asked} --n-models 8 --quiet", capsys)
    assert "harm, gain and cross are read on held-out documents alone" in printed
    assert "predicted by sums" not in printed
    verdict = json.loads((tmp_path / "bo-verdict.json").read_text())["sets"]["Bo"]
    effect, (n, columns) = np.load(tmp_path / "effects.npz")["effect"][0], (32, 48)
    assert verdict["measured"]["cross"]["value"] == pytest.approx(n / 16 * effect[n:columns].sum() / verdict["size"])
    assert verdict["held_out_only"]
    printed = call(f"scores --run {run} --example 3 --tokens {tmp_path}/3.png", capsys)
    assert f"tokens: {tmp_path}/3.png" in printed
    assert (tmp_path / "3.png").stat().st_size > 1000
    assert main(f"scores --run {run} --tokens {tmp_path}/3.png".split()) == 2
    assert "--tokens draws one document: name it with --example" in capsys.readouterr().err
    assert min(one["id"] for one in verdict["measured"]["most_harmed"]) >= n


def test_scores_of_documents_show_their_texts(documents_run: infl.Run, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line each, as wide as there is room, with nothing that a terminal would obey."""
    printed = call(f"scores --run {documents_run.folder} --n-top 32", capsys)
    assert "most memorized of 32 training examples, in accuracy by tokens" in printed
    assert "Ann <b>& sings</b> \ufffd[31m" in printed
    assert not {"\x1b", "\t"} & set(printed)
    dataset = documents_run.dataset()
    for column in range(32):
        assert f"{dataset.class_names[dataset.labels[column]]}" in printed
        assert dataset.text(column).split()[-1].replace("\x1b", "\ufffd") in printed
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    pair = next(line for line in lines if line.startswith("#"))
    source, target = int(pair.split()[0][1:]), int(pair.split("held-out #")[1].split()[0])
    texts = [" ".join(dataset.text(column).replace("\x1b", "\ufffd").split()) for column in (source, target)]
    assert lines[lines.index(pair) + 1] == " ".join(texts)


def test_one_document_stands_beside_those_it_influences(
    documents_run: infl.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = call(
        f"scores --run {documents_run.folder} --example 5 --outcome logprob --json {tmp_path}/5.json", capsys
    )
    scores = infl.memorization(documents_run, outcome="logprob")
    assert f"\n  {documents_run.dataset().text(5)}\n" in printed
    value = f"{scores.value[5]:.2f}".replace("-0.00", "0.00")
    assert f"memorization {value} ± {scores.se[5]:.2f} (nats a token)" in printed
    told = json.loads((tmp_path / "5.json").read_text())
    assert told["outcome"] == "logprob"
    assert told["memorization"]["memorization"] == pytest.approx(float(scores.value[5]))
    first = told["influenced_by"]["pairs"][0]["source"]
    assert documents_run.dataset().text(first) in printed


def test_an_outcome_that_a_run_lacks_is_named(small_run: infl.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"scores --run {small_run.folder} --outcome exact".split()) == 2
    assert "--outcome exact: this run has correct and margin; take one of these" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 120])
def test_tables_of_documents_fill_the_terminal(documents_run: infl.Run, width: int) -> None:
    short = documents_run.dataset()
    texts = [f"{k}: {8 * short.text(k)}" for k in range(short.n_columns)]
    dataset = infl.from_documents(texts[:32], texts[32:], context=512)
    tables = [
        memorization_table(infl.memorization(documents_run), dataset, width=width),
        pairs_table(infl.strongest_influences(documents_run).pairs(5), dataset, width=width),
        pairs_table([], dataset, width=width),
    ]
    for table, n_texts in zip(tables, (10, 10, 0), strict=True):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(table)
        printed = console.export_text()
        assert max(map(cell_len, printed.splitlines())) <= width
        assert printed.count("…") == n_texts
        assert printed.count(" ± ") == (10 if table is tables[0] else n_texts // 2)  # no other column gives way


def test_the_page_of_documents_shows_texts_escaped(
    documents_run: infl.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set.json").write_text(json.dumps({"one and its copy": [0, 1, 2]}))
    asked = f"report --run {documents_run.folder} --forget {tmp_path}/set.json --out {tmp_path}/page.html"
    call(asked, capsys)
    page = (tmp_path / "page.html").read_text()
    assert '<bdi class="text">Ann &lt;b&gt;&amp; sings&lt;/b&gt; \ufffd[31m</bdi>' in page
    assert not [mark for mark in ("Ann <b>", "\x1b", "data:image/png", "no pixels", "3 classes") if mark in page]
    assert "3 groups" in page
    assert "In accuracy by tokens" in page


def test_galleries_show_texts_in_the_place_of_pictures(documents_run: infl.Run) -> None:
    dataset = documents_run.dataset()
    pair = infl.records.ScoredPair(source=7, target=33, value=0.5, se=0.1)
    scores = infl.memorization(documents_run)
    for ax, shown in (
        (infl.plot.influence_pairs([pair], dataset), (7, 33)),
        (infl.plot.memorized_gallery(scores, dataset, n_per_class=12), range(32)),
    ):
        texts = {" ".join(text.get_text().split()) for one in ax.child_axes for text in one.texts}
        assert {excerpt(dataset, column) for column in shown} <= texts
        assert not any(one.images or one.lines for one in ax.child_axes)


def test_documents_in_any_file_are_trained_as_documents_where_nothing_else_is_asked_for(
    documents_run: infl.Run, small_digits: infl.Dataset, tmp_path: Path
) -> None:
    """As `infl plant` and `datasets` write them; files of images keep the defaults of images."""
    for name, rows in (("texts", {"text": ["a", "b"]}), ("images", {"image": [[0.0]], "text": ["a"]})):
        datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / name)
    for name, dataset in (("songs", documents_run.dataset()), ("digits", small_digits)):
        infl.write_npz(tmp_path / f"{name}.npz", dataset)
    for named in ("songs.npz", "texts"):
        command = Train.continuing([f"hf:{tmp_path}/{named}:0.5" if named == "texts" else f"{tmp_path}/{named}"])
        defaults: dict[str, Any] = {field.name: field.default for field in fields(command)}
        assert defaults["algorithm"].network == "gpt"
    for source in (f"{tmp_path}/digits.npz", f"hf:{tmp_path}/images:0.5"):
        assert Train.continuing([source]) is Train


def test_no_line_advises_what_documents_have_not(documents_run: infl.Run) -> None:
    """Pixels cannot be standardized, where margins lie at the bound of what is stored."""
    found = documents_run.accuracy()
    assert found is not None
    clipped = " ".join(accuracy_lines(replace(found, clipped=0.1)))
    assert "Lower --learning-rate" in clipped
    assert "pixels" not in clipped
