"""Examples come in: a source, named by one string, becomes a `Dataset`.

A dataset is two collections of labelled examples. D, the training examples, is what models learn from and what may
be forgotten; H, the held-out examples, is what they are judged on besides. Every example keeps the position it had in
its source, so that "training example 17" can be traced back to a picture, even in a subset. Pixels stay as they came:
uint8 pixels stay uint8 (and count as /255), everything else is float32, used as it is. Nothing is standardized here,
since a mean taken over D would let an example reach models that were trained without it: `infl.Algorithm(standardize=True)`
takes mean and deviation of each channel for each model from its own examples.

Where examples can come from, and when each is right:

- `digits`: scikit-learn's 1,797 handwritten digits, 8x8. Nothing to download, a model trains in milliseconds: for
  trying things out, for tests, for checking a claim on a laptop.
- `verses`: 1,999 verses of the King James Version from 67 chapters, for the same where documents are the question.
- `idx:FOLDER`: the four files of MNIST and its relatives (Fashion-MNIST, Kuzushiji-MNIST), gzipped or not. For results
  that others can compare with. Debian ships Fashion-MNIST: after `apt-get install dataset-fashion-mnist` it is
  `idx:/usr/share/datasets/fashion-mnist`.
- `tfds:NAME`: a data set of TensorFlow Datasets that lies prepared on this machine (as array_record; reading it takes no
  TensorFlow, and the extra `tfds`). For CIFAR and whatever else TFDS has, in the order of its publication.
- `folder:DIR`: your own pictures, in one subfolder for each class; `hf:DIR`: what Hugging Face's `datasets` saved with
  `save_to_disk` (the extra `huggingface`). Both take a fraction to hold out and a size to scale to: `folder:DIR:0.2:32x32`.
- a path that ends in `.npz`: your own data, saved once with `np.savez(path, x_train=..., y_train=..., x_test=...,
  y_test=...)`. For the command line, and whenever a run must name its data again later.
- `text:FILE`: documents, in plain text, as .jsonl or tokenized as .npz, as bytes or by a tokenizer's JSON file; `hf:` reads
  columns of texts likewise.
- `facts:FILE`: facts, subject, relation and object a line, separated by tabs or commas. For what follows from what.
- `from_arrays`, `from_documents`: your own data, already in memory. For notebooks; since no string names it, a run made from
  it can only be continued by passing the same arrays again.

All of them end in `from_arrays`, `from_tokens` or `facts.from_facts`, which check everything once; later stages rely on it
and check nothing again.
"""

from __future__ import annotations

import difflib
import os

from infl.data import embedded, facts, folder, hf, idx, npz, text, tfds
from infl.data.arrays import from_arrays, subset
from infl.data.documents import from_documents
from infl.data.npz import write_npz
from infl.records import Dataset, InputError

__all__ = ["from_arrays", "from_documents", "load", "subset", "write_npz"]

FORMS = (
    "`digits`, `verses`, `idx:FOLDER` (MNIST-style files), `folder:DIR` (pictures), `text:FILE` (documents), "
    "`facts:FILE` (triples), `tfds:NAME`, `hf:DIR` (Hugging Face), or a path that ends in `.npz`"
)

EMBEDDED = {"digits": embedded.load_digits, "verses": embedded.load_verses}
READERS = {
    "facts": facts.load,
    "idx": idx.load,
    "folder": folder.load,
    "hf": hf.load,
    "text": text.load,
    "tfds": tfds.load,
}
PLACEHOLDERS = {"facts": "FILE", "idx": "FOLDER", "folder": "DIR", "hf": "DIR", "text": "FILE", "tfds": "NAME"}


def load(
    source: str | os.PathLike[str], *, n_train: int | None = None, n_held_out: int | None = None, seed: int = 0
) -> Dataset:
    """Load the examples that a source names, all of them or a seeded subset.

    Args:
        source: `digits`, `verses`, `idx:FOLDER`, `folder:DIR[:FRACTION][:HEIGHTxWIDTH]`, `hf:DIR[:FRACTION][:HEIGHTxWIDTH]`,
            `text:FILE[:FRACTION][:OPTION=VALUE ...]`, `facts:FILE[:FRACTION]`,
            `tfds:NAME[/CONFIG][:VERSION][:TRAIN[:HELD_OUT]]`, or a path that ends in `.npz`; `~` is expanded. What each means
            says `load` in `infl.data.idx`, `.folder`, `.hf`, `.text`, `.facts`, `.tfds` and `.npz`.
        n_train: Training examples to draw, 1 to as many as there are; None takes all.
        n_held_out: Held-out examples to draw, likewise.
        seed: Of the draw, 0 to 2**32 - 1; without effect where all examples are taken.

    Returns:
        The dataset. Its `source` can be given to `load` again, from any folder, and names the whole of it: a subset
        is made again with the same `n_train`, `n_held_out` and `seed`.

    Raises:
        InputError: where the source is unknown, missing, damaged or does not hold a dataset, where more examples are
            asked for than there are, or where a subset leaves a class without training examples.

    Examples:
        >>> dataset = load("digits", n_train=200)
        >>> dataset.n_train, dataset.n_held_out, dataset.x_train.shape
        (200, 797, (200, 8, 8))
    """
    return subset(_load_all(os.fspath(source)), n_train, n_held_out, seed)


def _load_all(source: str) -> Dataset:
    form, colon, place = source.partition(":")
    if source in EMBEDDED:
        return EMBEDDED[source]()
    if colon and form in READERS:
        return READERS[form](place)
    if source.lower().endswith(".npz"):
        return npz.load(source)
    raise InputError(f"unknown source {source!r}: expected {FORMS}{_hint(source)}")


def _hint(source: str) -> str:
    """A guess at what was meant, or nothing."""
    if os.path.isdir(source):
        return f"; for a folder of MNIST-style files write 'idx:{source}', for one of pictures 'folder:{source}'"
    if os.path.isfile(source):
        if source.lower().endswith((".txt", ".jsonl")):
            return f"; for documents write 'text:{source}'"
        if source.lower().endswith((".tsv", ".csv")):
            return f"; for facts write 'facts:{source}', or save the arrays of this file with `np.savez` first"
        return "; save the arrays of this file with `np.savez` first"
    word, colon, rest = source.partition(":")
    known = [*EMBEDDED, *PLACEHOLDERS, "fashion-mnist", "mnist", "cifar10", "cifar100"]
    match difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.7):
        case [name] if name in EMBEDDED:
            return f"; did you mean '{name}'?"
        case [form] if form in PLACEHOLDERS:
            return f"; did you mean '{form}:{rest if colon and rest else PLACEHOLDERS[form]}'?"
        case [name] if "cifar" in name:
            return f"; did you mean 'tfds:{name}'?"
        case [name]:
            return f"; did you mean 'idx:FOLDER', with the folder that holds the four files of {name}?"
    return ""
