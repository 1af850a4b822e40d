"""The commands: what each takes, in the words of its help, and what it calls.

Heavy imports wait until a command runs, so that help and a mistyped option answer at once.

- `runs`     demo, train, merge, import, predict, verify, inspect;
- `planning` plan, and what train says of a target;
- `scores`   scores, of all examples or of one;
- `report`   report, the page of a run;
- `sets`     forget, plant: they make forget sets;
- `options`  what several of them take;
- `outputs`  what they write, checked before they run.
"""

from infl.cli.runs import Demo as Demo
from infl.cli.runs import Import as Import
from infl.cli.runs import Inspect as Inspect
from infl.cli.runs import Merge as Merge
from infl.cli.runs import Plan as Plan
from infl.cli.runs import Predict as Predict
from infl.cli.runs import Report as Report
from infl.cli.runs import Train as Train
from infl.cli.runs import Verify as Verify
from infl.cli.scores import Scores as Scores
from infl.cli.sets import Forget as Forget
from infl.cli.sets import Plant as Plant
