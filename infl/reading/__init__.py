"""Files that a stranger may have written: read within limits, with no code in them run.

What a header says of a size is held against what is there and against this machine's memory before any of it is allocated,
and nothing is ever unpickled. `data`, `store`, `training` and `untraining` read such files through here.

- `archive` arrays of an .npz file, whole or by rows;
- `limits`  bytes and JSON up to a size, and the memory that there is.
"""

from infl.reading.archive import Archive as Archive
from infl.reading.archive import Member as Member
from infl.reading.archive import open_archive as open_archive
from infl.reading.limits import most_bytes_held as most_bytes_held
from infl.reading.limits import parse_json as parse_json
from infl.reading.limits import read_at_most as read_at_most
from infl.reading.limits import read_json as read_json
