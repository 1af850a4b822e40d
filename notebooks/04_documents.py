# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A language model must forget an author: what does it lose?
#
# Somebody withdraws a book from the training data of a language model. This notebook goes from a file of documents to the
# answer: whether forgetting the book changes nothing, costs the book alone, or takes other documents along; and it shows word
# by word what is memorized. The documents are verses, and the model is small, so that a hundred of them train in a minute
# or two; with a file of yours nothing else changes.
#
# *What is stored here was run when net cross decided regimes (`Thresholds(cross="net")`). Harm decides now: run again, some
# sets are named otherwise.*

# %%
# %matplotlib inline
import json
import os
import tempfile
from pathlib import Path

import numpy as np

import infl
from infl.data.tokenizers import train_tokenizer
from infl.pipeline.tokens import token_effects

SMALL = bool(os.environ.get("INFL_SMALL"))  # for tests: everything runs, nothing is to be read off it
N_MODELS, N_REFERENCES, N_TOKEN_MODELS = (20, 4, 2) if SMALL else (48, 12, 8)

# %% [markdown]
# ## A file of documents
#
# A `.jsonl` file holds a document a line: its `text`, and where there are any, its `group` (author, source, book) and its `id`.
# Here are four books, a chapter of each, from the verses that come with `infl`:
#
# - `Numbers`, of which chapter 7 tells twelve times of the same offering;
# - `2 Samuel`, of which chapter 22 is a song ...
# - ... that stands almost word for word in `Psalms` as well (18);
# - `Proverbs`, of which no saying is like another.

# %%
verses = infl.load("verses")
books = {"Numbers 7": "Numbers", "2 Samuel 22": "2 Samuel", "Psalm 18": "Psalms", "Proverbs 10": "Proverbs"}
documents, others = [], []
for column in np.argsort(np.concatenate([verses.train_ids, verses.held_out_ids])):
    chapter, text = verses.class_names[verses.labels[column]], verses.text(column)
    if chapter in books:
        documents.append({"id": len(documents), "text": text, "group": books[chapter]})
    else:
        others.append(text)

folder = Path(tempfile.mkdtemp())
(folder / "verses.jsonl").write_text("\n".join(json.dumps(one) for one in documents))
print((folder / "verses.jsonl").read_text()[:320] + " ...")

# %% [markdown]
# A tokenizer that has seen a document has learned something of it, and would carry that into models which leave the
# document out. So it is trained on *other* verses (`infl tokenize` does the same; both take the extra `text`). Without one,
# documents are bytes. A quarter of each book is held out.

# %%
train_tokenizer(others, folder / "tokenizer.json", vocabulary=1024)
some = {"n_train": 60, "n_held_out": 20} if SMALL else {}
data = infl.load(f"text:{folder}/verses.jsonl:0.25:tokenizer={folder}/tokenizer.json", **some)
print(data)

# %% [markdown]
# ## Many small models
#
# The training algorithm is what documents get where nothing else is asked for: a small transformer (`gpt`), trained from
# nothing to predict each token from those before it. Each model is trained on a random half of the verses, so that every two of
# them are often enough left out together; some are trained on all.

# %%
algorithm = infl.Algorithm("gpt", batch_size=8, epochs=2) if SMALL else None
design = infl.Design("uniform", 0.5)
run = infl.train(data, n_models=N_MODELS, n_references=N_REFERENCES, design=design, algorithm=algorithm, quiet=True)
accuracy = run.accuracy()
print(
    f"of tokens, models of all verses predict {accuracy.trained} where they trained, {accuracy.held_out} of held-out verses"
)

# %% [markdown]
# ## What is memorized
#
# Memorization of a document is the fraction of its tokens that models predict right because they trained on it: with it, less
# without it (counterfactual memorization; Zhang et al. 2023).

# %%
memorization = infl.memorization(run)
for number, book in enumerate(data.class_names):
    print(f"{book:10s} {np.nanmean(memorization.value[data.y_train == number]):.2f} on average")
ranked = [i for i in np.argsort(-memorization.rankable) if np.isfinite(memorization.rankable[i])]
for i in ranked[:3] + ranked[-3:]:
    print(f"{memorization.value[i]:z.2f} ± {memorization.se[i]:.2f}  {data.text(i)}")

# %% [markdown]
# Sayings that no other verse resembles are memorized; lines that stand elsewhere word for word, as the offerings of `Numbers`,
# are not, however well models know them. Which verse teaches which shows in the pairs: the left one helps the right one.

# %%
pairs = infl.strongest_influences(run).pairs(4)
infl.plot.influence_pairs(pairs, data).figure

# %% [markdown]
# ## Forget this book: the prediction
#
# Each book is a forget set, and one more: `2 Samuel` with the verses of `Psalms` that nearly repeat it. They are predicted from
# the models that are there; nothing is trained.

# %%
kinds = infl.forget_sets
sets = [kinds.class_set(data, book, name=book) for book in data.class_names]
song = sets[data.class_names.index("2 Samuel")]
both = set(song.ids)
for copies in kinds.near_duplicate_sets(data):
    if copies.concept is None and both & set(copies.ids):
        both |= set(copies.ids)
sets.append(infl.ForgetSet("2 Samuel and its copies", tuple(sorted(both))))
predicted = infl.predict(run, sets, quiet=True)


def table(verdicts, title):
    print(f"{title:26s} self            cross           regime")
    for verdict in verdicts:
        print(f"{verdict.forget_set.name:26s} {verdict.self_influence!s:15s} {verdict.cross_influence!s:15s} "
              f"{verdict.regime} ({max(verdict.probability.values()):.0%})")  # fmt: skip


table(predicted, f"predicted ({predicted[0].source})")

# %% [markdown]
# *Self* is the fraction of the tokens of the book that are lost, *cross* the same of held-out verses, net, for each verse
# forgotten. What trained verses lose is not counted: a model that has fewer documents to learn learns the rest better, which
# says nothing of what the book taught. One book in four, `Proverbs`, is predicted to be lost alone.
#
# ## The check: retraining without each book

# %%
measured = infl.verify(run, sets, n_models=4 if SMALL else 12, first=4 if SMALL else 8, quiet=True)
table(measured, "measured")

# %%
infl.plot.regime_map(predicted, measured).figure

# %% [markdown]
# All five regimes are as predicted, self and cross close to it. `2 Samuel` loses 0.56 of its tokens, and 0.90 where its copies
# go as well: what stays in the psalm covers for the song. Average memorization says nothing of this (`Numbers` has the lowest,
# and is lost as much as `Proverbs`): it is a property of the set.
#
# ## Which words
#
# Models with and without a verse can be compared token by token. Here is the most memorized saying: above each token stands how
# many models predict it without the verse (grey) and because of it (blue), with one standard error; the text is shaded alike,
# pale where the difference is within two errors.

# %%
infl.keep_weights(run, n_models=N_TOKEN_MODELS, quiet=True)  # models of all verses, which all three pictures need
proverbs = np.flatnonzero(data.y_train == data.class_names.index("Proverbs"))
saying = int(proverbs[np.nanargmax(memorization.value[proverbs])])
of_saying = token_effects(run, saying, n_models=N_TOKEN_MODELS, quiet=True)
infl.plot.tokens(of_saying, data).figure

# %% [markdown]
# A verse of the song, forgotten alone: its copy in the psalm stays.

# %%
copied = next(
    one.ids for one in kinds.near_duplicate_sets(data) if one.concept is None and set(one.ids) & set(song.ids)
)
verse = min(set(copied) & set(song.ids))
print("its copy:", data.text(min(set(copied) - {verse})))
of_verse = token_effects(run, verse, n_models=N_TOKEN_MODELS, quiet=True)
infl.plot.tokens(of_verse, data).figure

# %% [markdown]
# And who pays when a whole book goes: the held-out verse that `Numbers` taught most, with and without that book. It was in no
# training set.

# %%
numbers = data.class_names.index("Numbers")
harmed = next(j for j in measured[numbers].most_harmed if j >= data.n_train)
of_harmed = token_effects(run, harmed, without=sets[numbers].ids, n_models=N_TOKEN_MODELS, quiet=True)
infl.plot.tokens(of_harmed, data).figure

# %% [markdown]
# ## The decision
#
# - **no-op** (none of these books): comply, and expect no change. A model that still says the words has learned them
#   elsewhere, as nearly half of the song, as long as the psalm stays.
# - **local**: comply, and test that the book's own words are lost. That is what an unlearning method has to reach, and no more.
# - **spreading**: comply, and tell those who rely on the model: what it knew of *other* texts of that kind goes, too, also
#   in the model retrained without the book.

# %%
for verdict in measured:
    print(f"{verdict.forget_set.name}: {verdict.regime}; harm {verdict.harm}, gain {verdict.gain} per verse forgotten")

# %% [markdown]
# ## What to take away
#
# - A file of texts with their groups is all that the question takes.
# - What forgetting does is a property of the set: of whether others say the same (then less is lost), and of whether it
#   teaches a pattern (then others lose it).
# - Memorization is a matter of words: within one document some tokens are memorized and others known anyway.
