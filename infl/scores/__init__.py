"""From outcomes to scores: the cheap half. Arrays in, arrays out, no disk and no knowledge of who trained the models.

Every score is a contrast: the mean outcome of the models that trained on an example minus that of the models that did not,
with its standard error and the two counts. The model is the sampling unit. Outcomes pass by in blocks: what a contrast takes
of them are sums (`sufficient_statistics`), and `contrasts` makes the difference, its error and its p-value from these.

Ask `influence` for scores: memorization, the influence matrix in one of three protocols, whole, of some sources and columns
or block by block, and its means over classes. Ask `strongest` for the pairs of a matrix that is never held. `evidence` has
intervals and q-values, the answer to "is that chance".

Where models are few and margins were recorded, `adjustment` estimates influence as if from two to three times the models. Where
single pairs matter, `shrinkage` says what a score is, given that most are zero and the largest estimates are the luckiest, and
`shrunk_influence` does that for a matrix. Both know more with a `surrogate`, training in closed form.

`agreement` compares two sets of scores of the same examples, in rank and in value.

Before training, `planning` says how many models a wanted standard error takes, and `power` how many a wanted effect takes;
after it, `power` says which is the smallest effect that the models at hand could have found.
"""
