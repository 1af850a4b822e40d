"""Where blocks of models run. An engine runs what it is handed and knows nothing of data, scores or files.

- `local` this machine's devices, in this process.
- `ray`   the workers of a Ray cluster, which come and go.
"""
