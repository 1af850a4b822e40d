"""Makes `infl/data/verses.npz`, the documents that `infl.load("verses")` gives, from Debian's King James Version.

    apt-get install bible-kjv
    bible -f -l9999 gen1:1-rev22:21 > kjv.txt
    python experiments/verses.py kjv.txt

Whole verses of the chapters below that have at most 32 tokens, by a byte-pair encoding that was trained on the verses of all
other chapters. Chapters were taken for what they hold: lists and genealogies on one pattern, passages that stand in two or
three books almost word for word, and verses that have little in common with any other.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from infl.data.documents import from_documents
from infl.data.splits import draw_held_out
from infl.data.tokenizers import read_tokenizer, train_tokenizer

CONTEXT = 32
VOCABULARY = 1024
FRACTION = 0.3
TARGET = Path(__file__).parents[1] / "infl/data/verses.npz"
VERSE = re.compile(r"(\S*?[A-Za-z])(\d+):(\d+) (.*)")
# Book as the program abbreviates it: its name, and chapters.
CHAPTERS = {
    "Ge": ("Genesis", [5, 11, 36]),  # genealogies; 36 again in 1 Chronicles 1
    "Exo": ("Exodus", [20, 25, 37, 40]),  # the ark ordered and made; commandments, again in Deuteronomy 5
    "Num": ("Numbers", [1, 7, 31, 33]),  # twelve times the same offering; lists of tribes, journeys
    "Deu": ("Deuteronomy", [5]),
    "Josh": ("Joshua", [12, 15, 19]),  # kings, cities
    "2Sm": ("2 Samuel", [22]),  # again as Psalm 18
    "1Chr": ("1 Chronicles", [1, 2, 6, 8, 16, 24, 25]),  # genealogies; 16 again in Psalms 96, 105, 106; lots
    "Ezra": ("Ezra", [2]),  # who came back, again in Nehemiah 7
    "Neh": ("Nehemiah", [7]),
    "Job": ("Job", [9, 38, 41]),
    "Psa": ("Psalm", [18, 37, 96, 105, 106, 118, 119, 136, 145]),  # 136 on one pattern
    "Prv": ("Proverbs", [3, 8, 10, 14, 15, 21, 22, 23, 31]),
    "Eccl": ("Ecclesiastes", [3]),
    "Lam": ("Lamentations", [3]),
    "Mat": ("Matthew", [5, 22, 24, 26, 27]),  # again in Mark, Luke
    "Mark": ("Mark", [12, 13, 14, 15]),
    "Luke": ("Luke", [6, 20, 21, 22, 23]),
    "John": ("John", [6, 7, 8, 11]),
    "1Cor": ("1 Corinthians", [15]),
}


def main() -> None:
    """Write the file, and print what is in it."""
    verses = [VERSE.fullmatch(line).groups() for line in Path(sys.argv[1]).read_text().splitlines()]  # pyright: ignore
    names = [
        f"{CHAPTERS[book][0]} {n}" if book in CHAPTERS and int(n) in CHAPTERS[book][1] else "" for book, n, *_ in verses
    ]
    texts = [text.strip() for *_, text in verses]
    mine = {text for text, name in zip(texts, names, strict=True) if name}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/bpe.json"
        others = [text for text, name in zip(texts, names, strict=True) if not name and text not in mine]
        train_tokenizer(others, path, vocabulary=VOCABULARY)
        tokenizer = read_tokenizer(path)
    lengths = [len(tokens) for tokens in tokenizer.encode(texts)]
    taken = [k for k, name in enumerate(names) if name and lengths[k] <= CONTEXT]
    chapters = [names[k] for k in taken]
    train, held_out = draw_held_out(np.unique(chapters, return_inverse=True)[1], FRACTION)
    dataset = from_documents(
        *([texts[taken[k]] for k in part] for part in (train, held_out)),
        groups=[chapters[k] for k in train],
        held_out_groups=[chapters[k] for k in held_out],
        tokenizer=tokenizer,
        context=CONTEXT,
    )
    arrays = {
        "x_train": dataset.x_train.astype(np.int16),
        "y_train": dataset.y_train.astype(np.uint8),
        "x_test": dataset.x_held_out.astype(np.int16),
        "y_test": dataset.y_held_out.astype(np.uint8),
        "train_ids": train.astype(np.int16),
        "held_out_ids": held_out.astype(np.int16),
        "class_names": np.array(dataset.class_names),
        "vocabulary": np.array(dataset.vocabulary),
    }
    np.savez_compressed(TARGET, **arrays)
    counts = Counter(chapters)
    print(
        f"{TARGET.name}: {TARGET.stat().st_size / 1000:.0f} kB, {dataset}, tokenizer from {len(others):,} other verses"
    )
    print(f"{len(counts)} chapters of {min(counts.values())} to {max(counts.values())} verses, {dict(counts)}")


if __name__ == "__main__":
    main()
