"""From outcomes to scores: the cheap half. Arrays in, arrays out, no disk and no knowledge of who trained the models.

Every score here is a contrast: the mean outcome of the models that trained on an example minus that of the models that
did not, with its standard error and the two counts. The model is the sampling unit.

- `contrasts`    sums that are streamed over models and merge, and the estimate made from them;
- `memorization` the contrast of an example's own outcome;
- `influence`    the contrast of every other outcome, in one of three readings;
- `planning`     how many models a wanted standard error takes.
"""
