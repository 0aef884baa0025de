"""What the processor says of itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def processor() -> dict[str, str]:
    """What Linux says of the first processor, e.g. ``model name``; nothing on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
