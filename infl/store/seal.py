"""The checksum by which a JSON description in a run is known to be as it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON with sorted keys; its own entry, `checksum`, is left out.

    Example:
        >>> checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1, "checksum": "..."})
        True
    """
    described = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
