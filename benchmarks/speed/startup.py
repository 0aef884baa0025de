"""Time what happens before the first answer: help, imports, the first sentence of a tiny model.

    python -m benchmarks.speed.startup --run RUN [--times 7]

RUN is a finished run of translation. Medians over so many fresh processes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.report import existing, measured_on, table, write_section


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=existing, required=True)
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    python, program = sys.executable, str(Path(sys.executable).parent / "regard")
    commands = {
        "`regard --help`": [program, "--help"],
        "`import regard`": [python, "-c", "import regard"],
        "python alone": [python, "-c", "pass"],
        "`import torch`": [python, "-c", "import torch"],
        "a first sentence": [program, "translate", str(options.run), "a man sleeps ."],
    }
    found = {name: median(command, options.times) for name, command in commands.items()}
    found["a first sentence beyond `import torch`"] = (
        found["a first sentence"] - found["`import torch`"]
    )
    found["`import regard` beyond python alone"] = found["`import regard`"] - found["python alone"]
    asked = {
        "`regard --help`": "0.3",
        "`import regard` beyond python alone": "0.1",
        "a first sentence beyond `import torch`": "1.2",
    }
    rows = [(name, f"{seconds:.2f}", asked.get(name, "")) for name, seconds in found.items()]
    write_section("Start-up", f"{measured_on()}\n\n{table(('what', 'seconds', 'at most'), rows)}")


def median(command: list[str], times: int) -> float:
    """Seconds of a process, the first one not counted: it compiles what is not compiled yet."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    taken = []
    for _ in range(times + 1):
        begun = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


if __name__ == "__main__":
    main()
