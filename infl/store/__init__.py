"""A run: a data set, an algorithm and collections; a collection is a design and immutable blocks of models, put if absent.

    run.json                             data, algorithm, design, seed, versions, with a checksum; put last when a run is made
    data/<sha>.npz, groups/<sha>.npz     the examples, and which of them are left out together, named by their fingerprints
    collections/<name>/collection.json   the design of the models of a collection
    collections/<name>/blocks/0000000-0000031.npz   outcomes of these models

Model t follows from (seed, t), so two writers write the same outcomes and the listing of blocks says what is complete: there
is no journal and no lock. Where two blocks hold a model, the first by name counts. Runs are joined by copying blocks, and
mended by deleting a damaged block and training it again. Disk, S3 and GCS are one interface, and rows and columns are read
straight from there.

- `opening`     runs made, opened and joined;
- `run`         one that is open: asked what it holds, written to;
- `blocks`      the file of a block, read by rows and columns, compared with checksums;
- `collections` the record of a design;
- `manifest`    run.json, the data and the groups;
- `storage`     named objects in a folder or under a URL;
- `importing`   masks and outcomes made elsewhere, from such a file to a run;
- `checkpoints` blocks in training that are not done yet, on this machine;
- `tiles`       matrices for the user as zarr arrays, written by columns.
"""

from infl.store.blocks import StoredOutcomes as StoredOutcomes
from infl.store.blocks import bytes_per_model as bytes_per_model
from infl.store.checkpoints import Checkpoint as Checkpoint
from infl.store.checkpoints import Checkpoints as Checkpoints
from infl.store.checkpoints import Job as Job
from infl.store.collections import Collection as Collection
from infl.store.collections import cover_name as cover_name
from infl.store.collections import leave_out_name as leave_out_name
from infl.store.collections import unlearned_name as unlearned_name
from infl.store.importing import import_outcomes as import_outcomes
from infl.store.opening import check_new as check_new
from infl.store.opening import create_run as create_run
from infl.store.opening import is_run as is_run
from infl.store.opening import merge as merge
from infl.store.opening import open_run as open_run
from infl.store.run import DamagedBlock as DamagedBlock
from infl.store.run import Run as Run
from infl.store.storage import is_url as is_url
from infl.store.tiles import TileWriter as TileWriter
from infl.store.tiles import new_tiles as new_tiles
