"""From data to outcomes: the expensive half, and the only room that imports flax and optax.

What is trained: `algorithm` holds the settings of A; `networks` says what a network is and adapts Flax and a user's own
functions; `architectures` has infl's own (mlp, cnn, resnet9, vit), whose convolutions are in `kernels`; `augmentation` and
`privacy` change what a step sees. `model` trains and evaluates ONE model, a pure function of its key, its members and the data:
read it first. `accounting` says how private training is.

Many of them: `subsets` draws which examples each model trains on, from (seed, number) and nothing else, and `grouping` which
examples are left out together. `ensemble` trains a batch of models on the devices of this machine in a `layout`, `tuning` finds
the fastest one, and `executors` feed it batch after batch, here or on a Ray cluster (`ray`). `weights` and `caches` are what is
kept on disk of it.
"""
