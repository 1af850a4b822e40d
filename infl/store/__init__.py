"""A run folder: turns outcomes as they come into rows on disk that survive a kill, and back into outcomes.

    run.json                 dataset, algorithm, design, seed, versions, devices, timings; with its own checksum
    data.npz                 the examples, so that a run can be analysed and verified wherever it is copied
    journal.jsonl            one line per block of models, appended after its rows are on disk: what is complete
    groups/                  which examples the models of a collection leave out together
    models/design/           models of the design: zarr3 arrays masks, correct (bits), margin (float16); a row a model
    models/grouped/          models of a grouped design
    models/cover-<sha>/      models that leave out given sets or parts of them
    models/full/             reference models of all of D, one row a seed
    models/without-<sha>/    models of D without one forget set, one row a seed
    forget/without-<sha>.json  name, ids and concept of that set
    checkpoints/             states of blocks in training, where they are asked for; gone once the outcomes are there

A run of models that were made elsewhere (`infl import`) has examples without pixels, [n, 0], and may hold correct or margin
alone.

A model counts once its rows, the names of their files, and then its line in the journal are on disk. Rows without a line are
leftovers of a kill and are written again. A line holds a checksum of its rows, by which `infl inspect` finds what a disk has
changed. run.lock is there while a process writes to the run.

- `run`      the folder as a whole: make it, open it, write a block, ask what it holds;
- `rows`     outcomes in zarr arrays, written and read by rows;
- `manifest` run.json: sealed, of one format, older and newer ones refused;
- `seal`     the checksum of such a description;
- `ledger`   what the lines of the journal add up to;
- `lock`     one writer at a time;
- `durable`  files whole or not at all, synced;
- `places`   nothing in a run leads out of it;
- `damage`   blocks that are not as they were written;
- `merging`  shards of one run, joined;
- `checkpoints` blocks that are not done yet;
- `tiles`    matrices in zarr arrays, written and read by columns;
- `journal`  the list of what is complete;
- `remote`   a run on object storage, with `objects`, `working_copy` and `remote_lock`;
- `examples` the copies of the data set and of groups;
- `forgotten` the names of verified forget sets;
- `imported` masks and outcomes made elsewhere, from such a file to a run.
"""

from infl.store.checkpoints import Checkpoint as Checkpoint
from infl.store.checkpoints import Checkpoints as Checkpoints
from infl.store.checkpoints import Job as Job
from infl.store.checkpoints import Reached as Reached
from infl.store.imported import import_outcomes as import_outcomes
from infl.store.merging import merge as merge
from infl.store.objects import is_url as is_url
from infl.store.rows import StoredOutcomes as StoredOutcomes
from infl.store.rows import bytes_per_model as bytes_per_model
from infl.store.run import Run as Run
from infl.store.run import check_new as check_new
from infl.store.run import create_run as create_run
from infl.store.run import init_seed_numbers as init_seed_numbers
from infl.store.run import is_run as is_run
from infl.store.run import mend_journal as mend_journal
from infl.store.run import name_of_cover as name_of_cover
from infl.store.run import name_of_leave_out as name_of_leave_out
from infl.store.run import open_run as open_run
from infl.store.tiles import TileWriter as TileWriter
from infl.store.tiles import new_tiles as new_tiles
