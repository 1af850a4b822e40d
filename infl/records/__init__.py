"""What the stages hand each other. Every stage imports this folder; it imports nothing of infl.

Letters used throughout: `n` training examples D with ids 0..n-1, `m` held-out examples H whose columns are n..n+m-1,
`T` models. Arrays are NumPy arrays on the host, axes in the order model, training example, column.

- `examples`: `Dataset` and `Groups`, what models are trained on;
- `outcomes`: `Outcomes`, what models did on every example, and `OutcomeSource`, whatever gives them block by block;
- `estimates`: `Estimate`, a score of every example or pair with its error and its counts, and what is found in it;
- `verdicts`: `ForgetSet`, the `Effects` of removing it, and the `Verdict` with what it was decided by;
- `evaluations`: `Evaluation`, what an unlearning method did, and its `Distance` to the models that it should have made;
- `words`: protocols, kinds of outcomes, regimes, the errors that end in one line, and the checks of integers;
- `files`: reading files of any origin up to a size, and writing them whole.
"""

from infl.records.estimates import Agreement as Agreement
from infl.records.estimates import Detectable as Detectable
from infl.records.estimates import Estimate as Estimate
from infl.records.estimates import ScoredPair as ScoredPair
from infl.records.evaluations import GROUPS as GROUPS
from infl.records.evaluations import Direction as Direction
from infl.records.evaluations import Distance as Distance
from infl.records.evaluations import Evaluation as Evaluation
from infl.records.evaluations import GroupDistance as GroupDistance
from infl.records.evaluations import Judgement as Judgement
from infl.records.evaluations import Metric as Metric
from infl.records.evaluations import MetricName as MetricName
from infl.records.examples import Dataset as Dataset
from infl.records.examples import DatasetKind as DatasetKind
from infl.records.examples import Groups as Groups
from infl.records.examples import channel_axes as channel_axes
from infl.records.examples import flat_pixels as flat_pixels
from infl.records.outcomes import ACCURACY_MODELS as ACCURACY_MODELS
from infl.records.outcomes import MAX_MARGIN as MAX_MARGIN
from infl.records.outcomes import Accuracy as Accuracy
from infl.records.outcomes import Outcomes as Outcomes
from infl.records.outcomes import OutcomesOrRun as OutcomesOrRun
from infl.records.outcomes import OutcomeSource as OutcomeSource
from infl.records.outcomes import as_outcomes as as_outcomes
from infl.records.outcomes import block_rows as block_rows
from infl.records.outcomes import join_blocks as join_blocks
from infl.records.outcomes import measure_accuracy as measure_accuracy
from infl.records.verdicts import ConceptGap as ConceptGap
from infl.records.verdicts import Effects as Effects
from infl.records.verdicts import ForgetSet as ForgetSet
from infl.records.verdicts import Quantity as Quantity
from infl.records.verdicts import Thresholds as Thresholds
from infl.records.verdicts import TokenEffects as TokenEffects
from infl.records.verdicts import Verdict as Verdict
from infl.records.verdicts import sorted_ids as sorted_ids
from infl.records.words import LABEL_KINDS as LABEL_KINDS
from infl.records.words import OUTCOME_KINDS as OUTCOME_KINDS
from infl.records.words import REGIMES as REGIMES
from infl.records.words import UNITS as UNITS
from infl.records.words import Array as Array
from infl.records.words import Columns as Columns
from infl.records.words import DiskError as DiskError
from infl.records.words import InputError as InputError
from infl.records.words import OutcomeKind as OutcomeKind
from infl.records.words import ProtocolName as ProtocolName
from infl.records.words import Regime as Regime
from infl.records.words import check_fraction as check_fraction
from infl.records.words import check_integer as check_integer
from infl.records.words import first_line as first_line
from infl.records.words import seeded as seeded
