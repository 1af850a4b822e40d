"""infl: what happens if a model must forget these training examples - nothing, a local loss, or damage that spreads?

    data ──Dataset──▶ training ──Outcomes──▶ store ──Outcomes──▶ scores ──Estimate──▶ untraining ──Verdict──▶ report

`load` brings examples in. `train` trains many models on random subsets of them and keeps what each model does on every
example. `memorization` and `influence` turn that into scores with errors. `predict` says what untraining a forget set
would do; `verify` retrains without it and says what it does. `unlearn` runs a method of unlearning on models of D, and
`evaluate` says which unlearned models are what they should be.

Names are imported when first used, so that `import infl` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infl.data import from_arrays as from_arrays
    from infl.data import from_documents as from_documents
    from infl.data import load as load
    from infl.data import planting as planting
    from infl.data import write_npz as write_npz
    from infl.pipeline.compare import compare as compare
    from infl.pipeline.decide import decide as decide
    from infl.pipeline.evaluate import evaluate as evaluate
    from infl.pipeline.plan import plan as plan
    from infl.pipeline.predict import predict as predict
    from infl.pipeline.predict import predict_effects as predict_effects
    from infl.pipeline.report import write_report as write_report
    from infl.pipeline.train import train as train
    from infl.pipeline.unlearn import unlearn as unlearn
    from infl.pipeline.verify import verify as verify
    from infl.pipeline.verify import verify_effects as verify_effects
    from infl.pipeline.weights import keep_weights as keep_weights
    from infl.pipeline.weights import load_weights as load_weights
    from infl.records import Dataset as Dataset
    from infl.records import Estimate as Estimate
    from infl.records import ForgetSet as ForgetSet
    from infl.records import InputError as InputError
    from infl.records import Outcomes as Outcomes
    from infl.records import Thresholds as Thresholds
    from infl.records import Verdict as Verdict
    from infl.report import plot as plot
    from infl.scores.evidence import interval as interval
    from infl.scores.evidence import q_values as q_values
    from infl.scores.influence import influence as influence
    from infl.scores.influence import memorization as memorization
    from infl.scores.strongest import strongest_influences as strongest_influences
    from infl.store import Run as Run
    from infl.store import import_outcomes as import_outcomes
    from infl.store import merge as merge
    from infl.store import open_run as open_run
    from infl.training import accounting as accounting
    from infl.training.adapters import from_equinox as from_equinox
    from infl.training.adapters import from_linen as from_linen
    from infl.training.adapters import from_nnx as from_nnx
    from infl.training.algorithm import Algorithm as Algorithm
    from infl.training.augmentation import Augmentation as Augmentation
    from infl.training.layout import Layout as Layout
    from infl.training.networks import Network as Network
    from infl.training.privacy import Privacy as Privacy
    from infl.training.ray import Ray as Ray
    from infl.training.subsets import Design as Design
    from infl.training.task import Task as Task
    from infl.untraining import forget_sets as forget_sets
    from infl.untraining.regimes import judge as judge

__version__ = "0.1.0"

# Where each name lives.
_HOME = {
    "infl.data": "from_arrays from_documents load planting write_npz",
    "infl.pipeline.compare": "compare",
    "infl.pipeline.decide": "decide",
    "infl.pipeline.evaluate": "evaluate",
    "infl.pipeline.plan": "plan",
    "infl.pipeline.predict": "predict predict_effects",
    "infl.pipeline.report": "write_report",
    "infl.pipeline.train": "train",
    "infl.pipeline.unlearn": "unlearn",
    "infl.pipeline.verify": "verify verify_effects",
    "infl.pipeline.weights": "keep_weights load_weights",
    "infl.records": "Dataset Estimate ForgetSet InputError Outcomes Thresholds Verdict",
    "infl.report": "plot",
    "infl.scores.evidence": "interval q_values",
    "infl.scores.influence": "influence memorization",
    "infl.scores.strongest": "strongest_influences",
    "infl.store": "Run import_outcomes merge open_run",
    "infl.training": "accounting",
    "infl.training.algorithm": "Algorithm",
    "infl.training.augmentation": "Augmentation",
    "infl.training.layout": "Layout",
    "infl.training.adapters": "from_equinox from_linen from_nnx",
    "infl.training.networks": "Network",
    "infl.training.task": "Task",
    "infl.training.privacy": "Privacy",
    "infl.training.ray": "Ray",
    "infl.training.subsets": "Design",
    "infl.untraining": "forget_sets",
    "infl.untraining.regimes": "judge",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}
_MODULES = ("accounting", "forget_sets", "planting", "plot")  # names that are modules themselves

__all__ = sorted([*_MODULE_OF, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'infl' has no attribute {name!r}")
    module = _MODULE_OF[name]
    return import_module(f"{module}.{name}") if name in _MODULES else getattr(import_module(module), name)


def __dir__() -> list[str]:
    return list(__all__)
