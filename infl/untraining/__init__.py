"""From scores to a statement about a forget set S: what would untraining it do?

- `forget_sets`  sets to ask about: from a JSON file, or generated (random, a class, high memorization, neighbours ...);
- `effects`      predicted effect of removing S on every example, from models that were trained without parts of S;
- `verification` measured effect, from models retrained without S;
- `regimes`      effects, either kind, summed to self, cross, harm and gain, and the verdict with its probability.

Predicted and measured effects are one record, `Effects`, and are judged by one function: a disagreement is about the world.
"""
