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
# # To which training examples is a prediction owed?
#
# *Cross-influence* of training example $i$ on example $j$ (Feldman & Zhang 2020) is how much the presence of $i$ helps the
# model to be right on $j$:
#
# $$\mathrm{xinf}(i, j) = P[\text{right on } j \mid i \text{ in training}] - P[\text{right on } j \mid i \text{ left out}]$$
#
# This notebook asks who influences whom among handwritten digits, what a near-duplicate does to the scores, and why it
# matters which models one reads an influence from.

# %%
# %matplotlib inline
import os

import numpy as np

import infl
from infl.scores.influence import class_influence

SMALL = bool(os.environ.get("INFL_SMALL"))  # for tests: everything runs, nothing is to be read off it
N_MODELS = 48 if SMALL else 1024
algorithm = infl.Algorithm(epochs=80)  # long enough for the models to fit every label, wrong ones too
design = infl.Design("balanced", 0.7)

# %%
digits = infl.load("digits", n_train=200 if SMALL else None, n_held_out=100 if SMALL else None)
settings = {"n_models": N_MODELS, "n_references": 0, "design": design, "algorithm": algorithm, "quiet": True}
run = infl.train(digits, **settings)
outcomes = run.outcomes("design").load()
memorization = infl.memorization(outcomes)

# %% [markdown]
# ## The strongest pairs
#
# Of all pairs of a training and a held-out digit, those with the largest influence. The interval below each arrow is
# for that pair alone; the q-value counts how many pairs there were to pick from.

# %%
found = infl.strongest_influences(outcomes, n_pairs=6)
intervals = []
for pair in found.pairs(6):
    low, high = infl.interval(infl.influence(outcomes, sources=[pair.source], columns=[pair.target]))
    intervals.append((low.item(), high.item()))
title = "strongest cross-influences, with 95% intervals"
infl.plot.influence_pairs(found.pairs(6), digits, intervals=intervals, title=title).figure

# %%
print(f"{found.n_tests:,} pairs; the six have q-values up to {max(pair.q for pair in found.pairs(6)):.1g}")
matrix = infl.influence(outcomes)
large = (infl.q_values(matrix.p) <= 0.05) & (matrix.value >= 0.1)
print(f"influences of 0.1 and more, found at a false discovery rate of 5%: {large.sum()}")

# %% [markdown]
# The influenced digit is one that models get wrong, unless they have seen one digit very much like it. These are the
# pairs that made Feldman and Zhang's figures: what is memorized is not useless, it is what the rare cases of tomorrow
# need.

# %% [markdown]
# ## A near-duplicate hides what it duplicates
#
# Take the most memorized digit, and give it one near-copy. Nothing else changes.

# %%
alone = int(np.nanargmax(memorization.value))
planted, pair = infl.planting.plant_copies(digits, alone, 1, noise=0.05, seed=0)
copy = pair.ids[-1]
again = infl.train(planted, **settings).outcomes("design").load()
with_copy = infl.memorization(again)
own = [infl.records.Quantity(scores.value[alone], scores.se[alone]) for scores in (memorization, with_copy)]
print(f"memorization of #{alone}: {own[0]} alone, {own[1]} with a near-copy")
between = infl.influence(again, sources=pair.ids, columns=pair.ids, protocol="left-out")
for a, b in ((0, 1), (1, 0)):
    print(f"influence of #{pair.ids[a]} on #{pair.ids[b]}, among models that left #{pair.ids[b]} out: "
          f"{infl.records.Quantity(between.value[a, b], between.se[a, b])}")  # fmt: skip
both_out = ~again.masks[:, list(pair.ids)].any(axis=1)
print(f"right on #{alone}: {again.correct[both_out, alone].mean():.2f} of the {both_out.sum()} models without either, "
      f"{again.correct[~both_out, alone].mean():.2f} of the others")  # fmt: skip

# %%
drawn = infl.records.ScoredPair(alone, copy, float(between.value[0, 1]), float(between.se[0, 1]))
infl.plot.influence_pairs([drawn], planted, title="a near-copy, read left-out").figure

# %% [markdown]
# The memorization of the digit falls to about 0.3, the fraction of models that leave the copy out: those that keep it are
# right either way. Yet the pair as a whole is as memorized as before: without both, no model is right. What the score of
# one example loses, the influence between the two has. So low memorization does not mean that forgetting is harmless to
# the forgotten; and influence, read among models that left the target out, is a detector of near-duplicates.

# %% [markdown]
# ## Three protocols of one influence
#
# Where $j$ is a training example, models can be right on it because they trained on it. It matters which models count:
#
# - `held-out`: $j$ is in no training set; all models count.
# - `left-out`: $j$ is a training example; only models that did *not* train on it count.
# - `trained`: only models that *did* train on $j$ count. This is the definition to the letter (Triantafillou et al. 2026,
#   Def. 3.2).

# %%
protocols = {protocol: infl.influence(outcomes, protocol=protocol) for protocol in ("held-out", "left-out", "trained")}
print("protocol    root mean square   largest   pairs of 0.3 and more")
for protocol, estimate in protocols.items():
    known = estimate.value[np.isfinite(estimate.value)]
    print(f"{protocol:10s} {np.sqrt(np.mean(known**2)):12.4f} {known.max():15.2f} {(known >= 0.3).sum():12d}")
inside = outcomes.correct[:, : digits.n_train][outcomes.masks].mean()
outside = outcomes.correct[:, : digits.n_train][~outcomes.masks].mean()
print(f"\nmodels are right on {inside:.2%} of the digits they trained on, on {outside:.2%} of those they left out")

# %% [markdown]
# `trained` is near zero for *every* pair, and not because nothing influences anything: these networks fit their training
# set, so they are right on $j$ whatever else is in it. There is nothing left for $i$ to add. What others do for $j$ shows
# only where $j$ is not itself in training. `infl` therefore reads cross-influence held-out or left-out, and names the
# protocol wherever it prints one.

# %% [markdown]
# ## Influence between classes
#
# The same numbers averaged over classes. Pairs share models, so their errors do not average out: the errors shown count
# that. Each number says how much more an example of the row's class does for the column's than an average example.

# %%
infl.plot.class_influence(class_influence(outcomes, digits), digits.class_names).figure

# %% [markdown]
# On average one example does next to nothing, a few ten-thousandths for its own class: a class of a hundred is redundant.
# The strong pairs above are rare exceptions in a matrix of small numbers. That is why sums of many small numbers, which
# `03_forget_sets` looks at, are a poor guide.

# %% [markdown]
# ## What to take away
#
# - Strong influence is rare, and joins rare examples to their like. Look at the pairs: they explain themselves.
# - A near-duplicate takes memorization from an example, though the two together are still the only source of what they
#   teach.
# - Say which models an influence is read from. Among models that trained on the target it is zero for networks that fit
#   their data, whatever the truth.
# - Influences of single examples are about single examples. Removing many at once is another question.
