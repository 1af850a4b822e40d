"""The stages in order, one file per question. Everything below is pure or touches one thing; here they are put together.

- `train`    which models does a run lack, new, continued or damaged?
- `jobs`     how are they trained and stored, batch by batch?
- `score`    how sure are its scores, and where does the whole influence matrix go?
- `compare`  do its scores agree with those of another run, or of a file?
- `predict`  what would untraining a forget set do, by what the run holds?
- `verify`   what does it do, by retraining without the set?
- `decide`   which of many sets are decided by prediction, and which by how much retraining?
- `tokens`   which tokens of a document does it change?
- `plan`     what would a run cost, and what could it find?
- `report`   all of it as one page.
- `weights`  the weights of single models, trained again from their keys.
- `progress` how far a long stage has come.

Each can be killed and called again: what is in the run is never trained twice.
"""
