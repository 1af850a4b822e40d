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
# # Which examples does a model know only because it saw them?
#
# Most training examples are taught by the others: leave one out, and the model is right on it all the same. A few are
# not. *Memorization* of example $i$ (Feldman 2020) is how much its own presence helps:
#
# $$\mathrm{mem}(i) = P[\text{right on } i \mid i \text{ in training}] - P[\text{right on } i \mid i \text{ left out}]$$
#
# It is a property of the data and of the training algorithm, not of one model, so it is estimated from many models of
# random subsets: each example is in some of them and missing from the others. This notebook asks three things of
# handwritten digits: how memorization is distributed, what is memorized, and how many models it takes to be sure.

# %%
# %matplotlib inline
import os

import numpy as np

import infl
from infl.scores.planning import ErrorForecast

SMALL = bool(os.environ.get("INFL_SMALL"))  # for tests: everything runs, nothing is to be read off it
N_MODELS = 48 if SMALL else 1024
algorithm = infl.Algorithm(epochs=80)  # long enough for the models to fit every label, wrong ones too

# %% [markdown]
# ## The data, with twenty labels that we know to be wrong
#
# A thousand digits, 8x8 pixels. To see what the scores do with mistakes, twenty labels are flipped first. The models are
# told nothing about it.

# %%
digits = infl.load("digits", n_train=200 if SMALL else None, n_held_out=100 if SMALL else None)
data, flipped = infl.planting.flip_labels(digits, 20, seed=1)
design = infl.Design("balanced", 0.7)
run = infl.train(data, n_models=N_MODELS, n_references=0, design=design, algorithm=algorithm, quiet=True)
memorization = infl.memorization(run.outcomes("design"))
correct, masks = run.outcomes("design").load().correct, run.outcomes("design").load().masks
inside, held_out = correct[:, : data.n_train][masks].mean(), correct[:, data.n_train :].mean()
print(f"{N_MODELS} models, each of 70% of {data.n_train} digits")
print(f"right on {inside:.1%} of the digits that they trained on, and on {held_out:.1%} of held-out ones")

# %% [markdown]
# ## A long tail
#
# The bars are the scores; the outline is what would be seen were nothing memorized, by chance alone. Where the two
# agree, nothing can be said about single examples. To the right of the outline, something can.

# %%
infl.plot.memorization(memorization).figure

# %%
shares = [float((memorization.value >= t).mean()) for t in (0.25, 0.5, 0.75)]
q = infl.q_values(memorization.p)
print("share of the digits with memorization of at least 0.25, 0.5, 0.75:", *(f"{share:.1%}" for share in shares))
print(f"memorized at all, at a false discovery rate of 5%: {(q <= 0.05).sum()} of {data.n_train}")

# %% [markdown]
# Most digits are in the bar at zero: the rest of the data teaches them. A fifth are memorized by an amount that can be told
# from zero, more than half of those by less than 0.25. One in twelve gains at least 0.25, which chance alone would bring
# to nobody, and one in twenty-five at least 0.75: models that have not seen those are right on them one time in four at
# most. That is what is meant by a long tail.

# %% [markdown]
# ## What is memorized
#
# The most memorized examples of each class. Some are flipped labels, which nothing else in the data could teach; many of
# the others are digits that one may well misread.

# %%
infl.plot.memorized_gallery(memorization, data, n_per_class=5).figure

# %%
top = np.argsort(-memorization.value)[: len(flipped)]
found = np.isin(top, flipped.ids)
rest = np.delete(memorization.value, list(flipped.ids))
print(f"of the {len(top)} most memorized digits {found.sum()} are flipped labels")
print(
    f"median memorization: {np.median(memorization.value[list(flipped.ids)]):.2f} flipped, {np.median(rest):.2f} others"
)
print(f"others with 0.25 or more: {(rest >= 0.25).sum()} of {len(rest)}")

# %% [markdown]
# A high score says that an example is *alone*. Whether that is because its label is wrong or because it is rare, the
# score cannot tell: that takes a look, which is what the gallery is for.

# %% [markdown]
# ## How errors shrink with models
#
# Every score has a standard error. From the first 64 models `infl` forecasts what more would bring. (Errors here fall
# faster than $1/\sqrt{T}$ at first: with few models an example that all of them get right may still be one that the next
# gets wrong, and the error says so.)

# %%
numbers = [n for n in (32, 64, 128, 256, 512, 1024) if n <= N_MODELS]
estimates = {n: infl.memorization(run.outcomes("design", range(n))) for n in numbers}
forecast = ErrorForecast.from_outcomes(run.outcomes("design", range(min(64, N_MODELS))))
planned = {n: forecast.root_mean_square(n) for n in numbers}
infl.plot.error_curve(estimates, planned=planned, target=0.02).figure

# %% [markdown]
# Are these errors honest? Two halves of the models share nothing but the data. Their scores should differ by as much as
# the errors say: the differences, divided by their errors, should have a standard deviation of 1, or less where outcomes
# hardly vary: there the errors keep a margin for what was not seen.

# %%
half = N_MODELS // 2
one = infl.memorization(run.outcomes("design", range(half)))
other = infl.memorization(run.outcomes("design", range(half, 2 * half)))
z = (one.value - other.value) / np.hypot(one.se, other.se)
between = (memorization.value > 0.1) & (memorization.value < 0.9)
print(f"standard deviation of z: {z.std():.2f} over all, {z[between].std():.2f} over scores between 0.1 and 0.9")
print(f"correlation of the two halves: {np.corrcoef(one.value, other.value)[0, 1]:.3f}")

# %% [markdown]
# Both are below 1: the errors are honest, and rather too large than too small.

# %% [markdown]
# ## What to take away
#
# - Memorization is rare and concentrated: most examples are taught by others, a long tail is not.
# - The most memorized examples are the mislabelled and the atypical. Scores find them; eyes tell them apart.
# - Compare a histogram with its null before reading its tail. With few models much of the tail is noise.
# - A few hundred models find who is memorized; a standard error says what more would bring, before they are trained.
# - Memorization looks at one example at a time. Two copies of a memorized example score far lower, since each covers for
#   the other: see `02_influence` for that, and `03_forget_sets` for what it means for forgetting.
