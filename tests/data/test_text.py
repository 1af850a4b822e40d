"""Documents come in token for token and are told apart as a person would, or are refused by the line that is wrong.

Whatever the tokenizer, the tokens of a row spell the document: that is asked of texts with every kind of character, since
models are scored by tokens and people read texts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import infl
from infl.data import from_arrays, from_documents, load, subset, write_npz
from infl.data.documents import from_tokens
from infl.data.embedded import load_verses
from infl.data.tokenizers import byte_tokenizer, read_tokenizer, train_tokenizer
from infl.records import InputError

BEFORE_DOCUMENTS = "df1783afbac4a0e0748bef762c4e1e60c4c99e13710fed11bac5addf11d0e3b5"
TEXTS = ["In the beginning", " was the word\nand\tmore ", "\x00 naïve – 日本 🦊 <0xE2>", "\u2028 between \x1c lines"]


def written(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return f"text:{path}"


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def texts_of(dataset: infl.Dataset) -> list[str]:
    """All texts in the order of their source, of a drawn split."""
    columns = np.argsort(np.concatenate([dataset.train_ids, dataset.held_out_ids]))
    return [dataset.text(int(column)) for column in columns]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "bpe.json"
    train_tokenizer(["the word was the word", "in the beginning was the end"] * 5, path, vocabulary=270)
    return path


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_tokens_spell_the_documents(kind: str, bpe: Path, tmp_path: Path) -> None:
    dataset = from_documents(TEXTS[:3], TEXTS[3:], tokenizer=bpe if kind == "bpe" else None)
    assert [dataset.text(k) for k in range(4)] == TEXTS
    assert (dataset.x_train.dtype, dataset.n_classes, dataset.class_names) == (np.int32, 1, ("documents",))
    assert len(dataset.vocabulary) == (270 if kind == "bpe" else 257)
    assert dataset.vocabulary[0] == ""
    assert (dataset.x_train[0] != 0).sum() == (len(TEXTS[0]) if kind == "bytes" else 9)
    write_npz(tmp_path / "same.npz", dataset)
    assert load(str(tmp_path / "same.npz")).fingerprint() == dataset.fingerprint()


def test_other_tokenizers_than_bytes_spell_words_with_their_spaces(tmp_path: Path) -> None:
    library = pytest.importorskip("tokenizers")
    pieces = {"[PAD]": 0, "[UNK]": 1, "Let": 2, "there": 3, "be": 4, "##come": 5}
    tokenizer = library.Tokenizer(library.models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.pre_tokenizer, tokenizer.decoder = library.pre_tokenizers.Whitespace(), library.decoders.WordPiece()
    tokenizer.enable_padding()
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "pieces.json"))
    dataset = from_documents(["Let there become"], ["Let be"], tokenizer=tmp_path / "pieces.json")
    assert dataset.x_train.tolist() == [[3, 4, 5, 6]], "nothing of the tokenizer's own padding and truncation is left"
    assert dataset.text(0).strip() == "Let there become"


def test_prompts_are_negative_and_long_documents_are_cut_and_counted() -> None:
    with pytest.warns(UserWarning, match="1 of 3 documents are longer than the context of 6 tokens .the longest has 9"):
        dataset = from_documents(["abcdefg", "xyz"], ["abc"], prompts=["Q:", ""], held_out_prompts=["Q"], context=6)
    a = ord("a") + 1
    assert dataset.x_train[0].tolist() == [-ord("Q") - 1, -ord(":") - 1, a, a + 1, a + 2, a + 3]
    assert dataset.x_train[1].tolist() == [a + 23, a + 24, a + 25, 0, 0, 0]
    assert dataset.text(0) == "Q:abcd"


def test_groups_are_numbered_as_they_appear_and_may_be_held_out_alone() -> None:
    dataset = from_documents(
        ["one", "two", "three"], ["four", "five"], groups=["b", "a", "b"], held_out_groups=["c", "a"]
    )
    assert (dataset.class_names, dataset.y_train.tolist(), dataset.y_held_out.tolist()) == (
        ("b", "a", "c"),
        [0, 1, 0],
        [2, 1],
    )
    part = subset(dataset, 1, 1, seed=3)
    assert (part.class_names, part.vocabulary, part.n_columns) == (dataset.class_names, dataset.vocabulary, 2)
    assert infl.forget_sets.class_set(dataset, "b").ids == (0, 2)
    with pytest.raises(InputError, match="group c: none of its documents is a training one"):
        infl.forget_sets.class_set(dataset, "c")


def test_columns_of_a_table_are_texts_and_groups_and_others_are_named() -> None:
    table = pd.DataFrame({"text": ["one", "two", "six"], "by": [3, 4, 3]}, index=[7, 8, 9])
    train, held_out = table[:2], table[2:]
    dataset = from_documents(train["text"], held_out["text"], groups=train["by"], held_out_groups=held_out["by"])
    assert (dataset.text(2), dataset.class_names, dataset.labels.tolist()) == ("six", ("3", "4"), [0, 1, 0])
    given: dict[str, Any]
    for given, said in (
        ({"train_texts": "one"}, "train_texts: expected a sequence of strings, one a document, got 'one'"),
        ({"held_out_texts": [3]}, r"held_out_texts: expected a sequence of strings, one a document, got .3."),
        ({"train_texts": []}, "train_texts: expected at least one, one a document, got 0"),
        ({"prompts": ["Q"]}, "prompts of train_texts: expected 2, one a document, got 1"),
        ({"groups": ["a", "b"]}, "held_out_groups: expected 1 names, one a document, got none"),
        ({"train_ids": [1]}, "train_ids: expected 2 integers"),
    ):
        with pytest.raises(InputError, match=said):
            from_documents(**{"train_texts": ["one", "two"], "held_out_texts": ["six"], **given})


SPLITS = {
    "a line each": ("one\r\ntwo\r\nthree", ["one", "two", "three"]),
    "empty lines": ("\n\none\nmore\n\n\ntwo\n \nthree\n", ["one\nmore", "two", "three"]),
    "dashes": ("one\n\nmore\n---\ntwo\n-----\nthree -- four", ["one\n\nmore", "two", "three -- four"]),
    "percent": ("%\none\n---\nmore\n%%\ntwo\n%\nthree 100%\n%\n", ["one\n---\nmore", "two", "three 100%"]),
    "byte order mark": ("\ufeffone\ntwo\nthree\u2028four", ["one", "two", "three\u2028four"]),
}


@pytest.mark.parametrize(("content", "expected"), SPLITS.values(), ids=SPLITS.keys())
def test_plain_text_is_taken_apart_at_its_separators(content: str, expected: list[str], tmp_path: Path) -> None:
    assert texts_of(load(written(tmp_path, "three.txt", content))) == expected


def test_a_jsonl_brings_groups_prompts_and_ids_and_the_same_fraction_of_each_group(tmp_path: Path) -> None:
    rows = [
        {"text": f"text {k}", "group": k % 3, "id": 1000 + k, "prompt": "Say: ", "title": f"No {k}"} for k in range(24)
    ]
    source = written(tmp_path, "letters.jsonl", lines(*rows, {"text": " ", "group": 0, "id": 7}))
    with pytest.warns(UserWarning, match="1 of 25 documents are empty and are left out"):
        dataset = load(source)
    assert (dataset.name, dataset.n_train, dataset.n_held_out) == ("letters", 18, 6)
    assert np.bincount(dataset.y_held_out).tolist() == [2, 2, 2]
    assert dataset.class_names == ("0", "1", "2")
    assert texts_of(dataset) == [f"Say: text {k}" for k in range(24)]
    assert sorted([*dataset.train_ids, *dataset.held_out_ids]) == list(range(1000, 1024))
    with pytest.warns(UserWarning, match="empty"):
        again = load(dataset.source)
    assert again.fingerprint() == dataset.fingerprint()
    np.testing.assert_array_equal(again.held_out_ids, dataset.held_out_ids)
    source = written(tmp_path, "titles.jsonl", lines(*rows))
    with pytest.warns(UserWarning, match="14 of 24 documents are longer than the context of 9"):
        other = load(f"{source}:0.5:text=title:group=prompt:context=9")
    assert (other.n_train, other.class_names, max(map(len, texts_of(other)))) == (12, ("Say: ",), 9)


def test_options_of_a_source_are_kept_and_paths_in_it_made_absolute(
    tmp_path: Path, bpe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "some.txt", "the word was\nthe end\nthe beginning\n")
    monkeypatch.chdir(tmp_path)
    Path("bpe.json").write_bytes(bpe.read_bytes())
    dataset = load("text:some.txt:0.4:context=8:tokenizer=bpe.json")
    assert dataset.source == f"text:{tmp_path}/some.txt:0.4:context=8:tokenizer={tmp_path}/bpe.json"
    monkeypatch.chdir("/")
    assert load(dataset.source).fingerprint() == dataset.fingerprint()
    assert dataset.x_train.shape == (2, 8)


def test_tokens_come_from_an_npz(tmp_path: Path) -> None:
    tokens = {"x_train": np.array([[1, 2, 0], [-3, 2, 1]], np.int64), "x_test": np.array([[2, 2, 2]])}
    np.savez(tmp_path / "tokens.npz", **tokens)
    dataset = load(f"text:{tmp_path}/tokens.npz")
    assert (dataset.x_train.dtype, dataset.text(1), dataset.class_names) == (np.int32, " 3 2 1", ("documents",))
    assert load(dataset.source).fingerprint() == dataset.fingerprint()
    groups = {"y_train": [0, 1], "y_test": [1], "class_names": ["a", "b"], "vocabulary": ["", "no", " yes", "?"]}
    np.savez(tmp_path / "spelled.npz", **tokens, **groups)
    for source in (f"{tmp_path}/spelled.npz", f"text:{tmp_path}/spelled.npz"):
        assert (load(source).text(1), load(source).class_names) == ("? yesno", ("a", "b"))


def test_fingerprints_cover_the_vocabulary_and_the_targets_and_no_other_data_changes() -> None:
    dataset = from_documents(["one", "two"], ["six"])
    assert dataset.fingerprint() != replace(dataset, vocabulary=(*dataset.vocabulary, "more")).fingerprint()
    x, y = np.eye(4), [0, 0, 1, 1]
    plain = from_arrays(x, y, x, y)
    assert plain.fingerprint() == BEFORE_DOCUMENTS, "runs on disk name their data by it"
    with_targets = from_arrays(x, y, x, y, targets=(np.arange(4), np.arange(4)))
    assert with_targets.fingerprint() not in (
        plain.fingerprint(),
        replace(with_targets, targets=np.zeros(8, np.float32)).fingerprint(),
    )


def test_targets_take_the_place_of_labels() -> None:
    x = np.eye(4)
    dataset = from_arrays(x, None, x, None, targets=(np.arange(4) / 2, [7, 8, 9, 10]))
    assert (dataset.class_names, dataset.y_train.tolist()) == (("examples",), [0] * 4)
    assert dataset.targets is not None
    assert (dataset.targets.dtype, dataset.targets.tolist()) == (np.float32, [0, 0.5, 1, 1.5, 7, 8, 9, 10])
    part = subset(dataset, 2, 3, seed=1)
    assert part.targets is not None
    assert part.targets.tolist() == [*(part.train_ids / 2), *(part.held_out_ids + 7)]
    bad: Any = (
        (np.arange(8), "expected two arrays"),
        ((np.arange(3), np.arange(4)), "numbers for each of 4 training examples, got int64 of shape .3,"),
        ((np.full(4, np.nan), np.arange(4)), "finite numbers, got NaN or inf for 4 of 4 training"),
        ((np.zeros((4, 2)), np.arange(4)), "one shape per example"),
    )
    for targets, said in bad:
        with pytest.raises(InputError, match=said):
            from_arrays(x, None, x, None, targets=targets)
    with pytest.raises(InputError, match="y_train: expected"):
        from_arrays(x, None, x, None)


GOOD = '{"text": "one"}\n'
BAD: dict[str, tuple[str, str | bytes, str]] = {
    "no documents": ("a.txt", "\n \n", "expected at least two documents, one to train on and one to hold out, got 0"),
    "empty file": ("a.jsonl", "", "at least two documents"),
    "one document": ("a.txt", "alone", "got 1"),
    "latin 1": (
        "a.txt",
        "one\ntwo\ncaf\xe9 x".encode("latin1"),
        r"expected UTF-8, got the byte 0xE9 in line 3 .byte 11 of",
    ),
    "no json": ("a.jsonl", GOOD * 2 + "{text: 1}", "line 3: expected JSON, got '{text: 1}'"),
    "no object": ("a.jsonl", GOOD + "[1, 2]", "line 2: expected a JSON object such as .* got '.1, 2.'"),
    "no text": ("a.jsonl", GOOD + '{"body": "x"}', "line 2: expected a text under 'text', got the keys 'body'"),
    "text that is none": ("a.jsonl", GOOD + '{"text": 3}', "line 2: expected a string under 'text', got 3"),
    "prompt that is none": ("a.jsonl", GOOD + '{"text": "a", "prompt": 3}', "line 2: expected a string under 'prompt'"),
    "some groups": (
        "a.jsonl",
        '{"text": "one", "group": "a"}\n' + GOOD,
        "line 2: expected a group in every line or in none",
    ),
    "group of no name": ("a.jsonl", '{"text": "one", "group": ["a"]}\n', "line 1: expected the name of a group"),
    "no such group key": (
        "a.jsonl:group=author",
        GOOD * 3,
        "line 1: expected a group under 'author', got the keys 'text'",
    ),
    "half a pair": ("a.jsonl", GOOD + '{"text": "x\\ud800"}', "document 1: holds half of a surrogate pair"),
    "one token": ("a.txt", "one\ntwo\nx\ny", r"document [23]: expected at least two tokens, .*\(\d such documents\)"),
    "long prompt": (
        "a.jsonl:context=4",
        '{"text": "a", "prompt": "long"}\n' * 3,
        "prompt has 4 tokens, which leave none of",
    ),
    "groups of one": ("a.jsonl:group=text", lines(*({"text": f"no {k}"} for k in range(4))), "one document in each"),
    "context": ("a.txt:context=long", "one\ntwo", "context: expected a number of tokens, got 'long'"),
    "short context": ("a.txt:context=1", "one\ntwo", "context: expected 2 to"),
    "unknown option": ("a.txt:length=4", "one\ntwo", "expected :text=..., :group=..., .*, got :length=4"),
    "key of a text": ("a.txt:group=a", "one\ntwo", "group= names a key of a .jsonl, got a file that ends in .txt"),
    "no tokenizer": ("a.txt:tokenizer=no.json", "one\ntwo", "no.json: expected a tokenizer as Hugging Face's"),
}


@pytest.mark.parametrize(("name", "content", "said"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_named(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    file, _, options = name.partition(":")
    source = written(tmp_path, file, content)
    with pytest.raises(InputError, match=said) as caught:
        load(f"{source}:{options}" if options else source)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_and_one_without_text_form(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load(f"text:{tmp_path}/missing.txt")
    with pytest.raises(InputError, match="expected a file after the colon, as in text:FILE"):
        load("text:")
    written(tmp_path, "a.txt", "one\ntwo")
    with pytest.raises(InputError, match=r"for documents write 'text:.*a.txt'"):
        load(str(tmp_path / "a.txt"))


TOKENS = np.array([[1, 2, 3], [1, 2, 0]])
BAD_TOKENS: dict[str, tuple[Sequence[Any], str]] = {
    "floats": ((TOKENS / 2, TOKENS), "x_train: expected token ids, integers .documents, length., got float64"),
    "one axis": ((TOKENS[0], TOKENS), "got int64 of shape .3,"),
    "lengths": ((TOKENS, TOKENS[:, :2]), "rows of one length, got 3 in x_train and 2 in x_held_out"),
    "gap": (([[1, 0, 2]], TOKENS), "got it inside of document 0"),
    "one token": (([[1, 2, 3], [1, 0, 0]], TOKENS), "got none in 1 of 2, the first at 1"),
    "prompts alone": (([[-1, -2, -3]], TOKENS), "expected a token to score"),
    "large": (([[1, 1 << 40, 0]], TOKENS), "within int32"),
    "outside": ((TOKENS, TOKENS, ["", "a", "b"]), "expected token ids below 3, the size of the vocabulary, got 3"),
    "half a pair": ((TOKENS, TOKENS, ["", "a", "b", "\ud800"]), "no half of a surrogate pair"),
    "no padding": ((TOKENS, TOKENS, ["a", "b", "c", "d"]), "vocabulary: expected the text of each id, empty for 0"),
}


@pytest.mark.parametrize(("given", "said"), BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_bad_tokens_are_named(given: Sequence[Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        from_tokens(*given)


def test_a_tokenizer_of_billions_of_tokens_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "absurd.json"
    path.write_text('{"model": {"type": "WordLevel", "vocab": {"one": 4000000000}, "unk_token": "one"}}')
    with pytest.raises(InputError, match="absurd.json: expected token ids below 16,777,216, got 4000000000"):
        read_tokenizer(path)


def test_without_tokenizers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert len(byte_tokenizer().vocabulary) == 257
    for ask in (lambda: read_tokenizer("any.json"), lambda: train_tokenizer(["a"], tmp_path / "any.json")):
        with pytest.raises(InputError, match=r"pip install 'infl\[text\]'"):
            ask()


def test_a_run_keeps_its_documents(tmp_path: Path) -> None:
    from infl.store import manifest, storage

    texts = [f"text {k}" for k in range(4)]
    dataset = from_documents(texts, ["held out"], groups=list("aabb"), held_out_groups=["a"])
    x = np.eye(4)
    for data in (dataset, from_arrays(x, None, x, None, targets=(np.arange(4), np.arange(4)))):
        place, made = storage.Storage(tmp_path), manifest.make_manifest(data, {})
        manifest.put_dataset(place, data, made)
        back = manifest.read_dataset(place, made)
        assert (back.vocabulary, back.fingerprint()) == (data.vocabulary, data.fingerprint())
        assert made["dataset"]["largest_class"] == [None, None]


def test_the_embedded_verses_are_what_they_are_said_to_be() -> None:
    dataset = load("verses")
    assert (dataset.n_train, dataset.n_held_out, dataset.n_classes) == (1396, 603, 67)
    assert (dataset.x_train.shape[1], len(dataset.vocabulary)) == (32, 1024)
    assert np.bincount(dataset.y_train).min() >= 7
    assert np.bincount(dataset.y_held_out, minlength=67).min() >= 3
    ids = np.concatenate([dataset.train_ids, dataset.held_out_ids])
    assert sorted(ids) == list(range(1999))
    assert (np.diff(dataset.labels[np.argsort(ids)]) >= 0).all(), "in the order of the books"
    psalm = [dataset.text(int(k)) for k in np.flatnonzero(dataset.labels == dataset.class_number("Psalm 136"))]
    assert len(psalm) == 26
    assert all("for his mercy endureth for ever" in verse for verse in psalm)
    assert load("verses", n_train=50, n_held_out=20).n_columns == 70
    two = load_verses(["Psalm 136", "Exodus 20"])
    assert two.class_names == ("Psalm 136", "Exodus 20")
    assert {two.text(int(k)) for k in np.flatnonzero(two.labels == 0)} == set(psalm)
    text_of = {int(ids[k]): dataset.text(k) for k in range(1999)}
    of_two = np.concatenate([two.train_ids, two.held_out_ids])
    assert [two.text(k) for k in range(two.n_columns)] == [text_of[int(k)] for k in of_two]
    assert dataset.fingerprint().startswith("96f7eaf6010e67ee"), (
        "scores and runs on it compare with others only while it stays"
    )
