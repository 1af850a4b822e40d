"""From data to outcomes: the expensive half, and the only folder that imports flax and optax.

- `subsets`   which examples of D each model trains on: a mask from (seed, model id) and nothing else;
- `networks`  what is trained: Flax networks, and adapters for a user's own init / apply;
- `architectures` infl's own: mlp, cnn, resnet9, vit; `convolution` computes them, by the back end that is fastest here;
- `algorithm` A: train ONE model, a pure function of key, members and data;
- `orders`    in which order an epoch visits the examples;
- `privacy`   A, differentially private: Poisson samples, clipped gradients, noise; `accounting` says how private;
- `ensemble`  train MANY: blocks of models over `lax.map` or `vmap`, sharded over devices.

A reader learns the method from `algorithm` without meeting devices, and the designs from `subsets` without meeting JAX.
"""
