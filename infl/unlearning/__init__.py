r"""Turns a trained model into one that shall no longer know S: methods of machine unlearning, for many models at once.

A method is a pure function `(params, key, problem, **settings) -> params`. It begins at the weights of one model of A(D), and
`problem` has D, S and the losses of the network. Its keyword-only arguments are its settings, numbers with a default each; they
are data to XLA, so one compilation serves all their values, and all sets.

- `problem`   what a method works on;
- `descent`   steps of an optimizer through D\S beside S, which most methods are made of;
- `steps`     methods by gradient steps;
- `weights`   those that change weights at once: selective dampening, a Newton step;
- `methods`   the table of all by name, and their settings;
- `ensemble`  many models unlearned as they are trained: in batches, on all devices, here or on a cluster.

Batch statistics and dropout are as in evaluation throughout, and images are not augmented: a method sees the network that is
judged. Running averages stay those of A(D).
"""
