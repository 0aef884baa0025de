"""Foreign files, read with errors that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regard.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: it is missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"there is no {path.name}", where=str(path.parent)) from None
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise InputError("is no JSON object", where=str(path))
    return found
