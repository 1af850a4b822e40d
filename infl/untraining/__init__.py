"""From scores to a statement about a forget set S: what would untraining it do?

A set comes from `forget_sets`: a JSON file, ids in memory, or a wish such as a class, a cluster, the most memorized examples.
What removing it does to every example is either predicted or measured, and both are one record, `Effects`:

- `effects` predicts from models that were trained without parts of S. `support` says how much of what supports an example a
  subset leaves, `response` how margins respond to that, `distribution` what a drop of a margin does to the probability of being
  right, and `errors` how far predictions are off, from models held out; `carry_over` whether models of another network tell
  anything. Right for many sets at once, since nothing is trained;
- `forests` predicts facts, from what models of subsets know of each by the facts that are left;
- `additive` predicts by summing influences of single examples: the baseline, and all that a run without pixels allows;
- `verification` measures with models retrained without S. Right where a prediction is undetermined or much hangs on it.

`comparison` says of unlearned models, whatever made them, how far they are from models retrained without S, or without all of
the concept that S is part of (`distance`), and so whether they untrain, unlearn or neither; `metrics` are those of others.

`regimes` sums effects of either kind to self, cross, harm and gain, and gives the verdict with its probability: one function
judges both, so that a disagreement is about the world.
"""
