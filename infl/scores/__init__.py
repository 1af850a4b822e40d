"""From outcomes to scores: the cheap half. Arrays in, arrays out, no disk and no knowledge of who trained the models.

Every score here is a contrast: the mean outcome of the models that trained on an example minus that of the models that
did not, with its standard error and the two counts. The model is the sampling unit.

- `sides`        sums over the models with an example, or those without;
- `totals`       what of them takes matrix products, and adds up over models: exact counts where it can be;
- `contrasts`    sums that are streamed over models and merge, and the estimate made from them;
- `spread`       how the design of the subsets makes their errors larger or smaller;
- `evidence`     intervals, p-values, and q-values over matrices that are never held;
- `memorization` the contrast of an example's own outcome;
- `influence`    the contrast of every other outcome, in one of three protocols;
- `query`        the part of it that a question asks for: one example's, or that within classes;
- `counting`     counts of models, a bit each;
- `tiles`        that matrix by columns, made and read on all cores;
- `strongest`    the pairs worth keeping of a matrix that is never held;
- `adjustment`   influence from margins, and with a covariate: as if from two to three times the models;
- `shrinkage`    posteriors of scores: most pairs are zero, and the largest estimates are the luckiest;
- `posterior`    those of a whole influence matrix, or block by block;
- `findings`     what of a run's scores counts as found, and the smallest that could have been;
- `planning`     how many models a wanted standard error takes;
- `power`        how many a wanted effect takes, and the smallest effect that some find.
"""
