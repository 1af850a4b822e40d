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
# # Can a model forget one fact, if others imply it?
#
# Somebody was born in a town (A); the town lies in a nation (B); so the person belongs to that nation (C). Leave C out of the
# training data, and a model that composes A and B knows it all the same. This notebook asks what it takes to forget C, what
# else goes with it, from which facts models know it, and whether a method of unlearning that makes C disappear forgets it.
#
# *What is stored here was run when net cross decided regimes (`Thresholds(cross="net")`). Harm decides now: run again, some
# sets are named otherwise.*

# %%
# %matplotlib inline
import os
import tempfile
from pathlib import Path

import infl
from infl.data import worlds
from infl.pipeline.facts import fact_sources, influence_cut
from infl.untraining.cuts import fact_sets, find_fact

SMALL = bool(os.environ.get("INFL_SMALL"))  # for tests: everything runs, nothing is to be read off it
SIZE, N, N_SUBSETS = (4, 8, 40) if SMALL else (22, 64, 500)

# %% [markdown]
# ## A small world
#
# Persons are born in towns, which have a nation, a river and a dialect; so have their persons. Some persons have a hobby, which
# follows from nothing, put in one to three ways. Of some persons nation, river and dialect are held out: they are there to see
# what else is lost. Beside the facts lies the table of what follows from what.

# %%
place = Path(tempfile.mkdtemp()) / "lives.tsv"
world = worlds.lives(SIZE)
world.write(place)
data = infl.load(f"facts:{place}")
print(data)
print(*(place.read_text().splitlines()[k].replace("\t", ", ") for k in (1, 67, 68)), sep="\n")

# %% [markdown]
# The question is the example, the object its label. The network, `transe`, gives every entity a point and every relation a
# translation; a model takes some 0.03 seconds, so that hundreds are no matter.

# %%
run = infl.train(data, n_models=N_SUBSETS, n_references=N, design=infl.Design("uniform", 0.7), quiet=True)
known = run.accuracy()
print(f"models of D know {known.trained.value:.3f} of D and {known.held_out.value:.3f} of what is held out")

# %% [markdown]
# Models of D know what was held out as well: they compose.
#
# ## What forgetting a fact may mean
#
# The fact alone; it with its premises; it with a smallest cut of all its derivations, since premises follow back from other
# conclusions. And, for comparison, a hobby, and one of three ways of putting another.

# %%
trained = {row[4] for row in world.rows if row[3] == "train"}
person = next(row[0] for row in world.rows if row[1] == "nation" and row[0] != "person-0")
sets = fact_sets(data, f"{person}, nation, ?", derivations=world.derivations)
ways = {
    number: [k for k in range(data.n_train) if data.train_ids[k] == number] for number in set(data.train_ids.tolist())
}
sets.append(next(infl.ForgetSet("a hobby, put once", ids) for number, ids in ways.items()
                 if len(ids) == 1 and data.text(ids[0]).split(", ")[1] == "hobby"))  # fmt: skip
sets.append(next(infl.ForgetSet("a hobby, one of three ways", ids[:1]) for ids in ways.values() if len(ids) == 3))
for one in sets:
    print(f"{one.name:32s}", "; ".join(data.text(k)[:-1] + data.class_names[data.y_train[k]] for k in one.ids))

# %%
verdicts = infl.verify(run, sets, n_models=N, stop=None, quiet=True)
for verdict in verdicts:
    print(
        f"{verdict.forget_set.name:32s} {verdict.regime:13s} self {verdict.self_influence}, cross {verdict.cross_influence}"
    )

# %% [markdown]
# Alone the fact is a no-op: models without it know it. So it is without its premises: other conclusions imply them back. The
# cut by rules loses facts of this person and nothing else; what of them is left is guessed from what others like it have. What
# nothing implies is local, and what is put in other ways too a no-op: to a model *being implied* and *being restated* are the
# same.
#
# ## What a fact is known from
#
# The influence of every training fact on held-out conclusions, at a false discovery rate of 5%. Which facts are drawn depends
# on nothing but the models: the table of derivations was not asked.

# %%
run = infl.open_run(run.place)
asked = [row[0] for row in world.rows if row[1] == "river" and row[3] == "test"][-4:]
columns = [find_fact(data, f"{one}, river, ?") for one in asked]
pairs = [pair for column in columns for pair in fact_sources(run, column)]
infl.plot.derivations(pairs, data).figure

# %% [markdown]
# These persons' towns have no other person whose river is trained on, so that both premises show. Where there are some, each
# says what the town's own fact says, and hides it: many sources have little influence each.
#
# The same influences tell what to leave out so that a fact is gone, without any table of rules:

# %%
cut = influence_cut(run, f"{asked[-1]}, river, ?", quiet=True)
if cut is not None:
    print(cut.name, [data.text(k)[:-1] + data.class_names[data.y_train[k]] for k in cut.ids])

# %% [markdown]
# ## A method of unlearning
#
# NPO pushes the fact's probability down and holds the rest. Beside it what retraining without the fact does, which is nothing.

# %%
alone = sets[0]
for method in ["npo"] if SMALL else ["fine-tune", "npo", "random-labels"]:
    infl.unlearn(
        run, [alone], method=method, n_models=N, quiet=True, **({"rate": 1.0} if method == "fine-tune" else {})
    )
for one in infl.evaluate(infl.open_run(run.place), [alone], quiet=True):
    did = one.effect
    print(f"{one.method:14s} self {did.self_influence}, cross {did.cross_influence}, T {one.to_oracle}, {one.verdict}")

# %% [markdown]
# The fact is gone, as nobody who trains without it would see it; other facts go with it, and it is back after a few steps of
# training on the others (see `experiments/facts`): it was suppressed, not forgotten.

# %% [markdown]
# ## What to take away
#
# - A fact that others imply is not forgotten by leaving it out; `infl forget fact` gives the sets that one may mean.
# - To be forgotten it has to be cut off from all its derivations, and premises follow back from conclusions.
# - What nothing implies or states again is forgotten alone; how rare it is does not matter.
# - `infl.plot.derivations`, and the page of a run, show what facts are known from.
