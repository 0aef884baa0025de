"""Hold the memory of regard's training step beside the peers', on the same batches.

    python -m benchmarks.speed.memory --peers DIR [--python PEERS_PYTHON] [--shape base]

Each is a process of its own; what it held at most, imports and weights included, is the system's
word (`ru_maxrss`). The table goes to RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import existing, measured_on, table, write_section
from benchmarks.speed.jobs import FLOAT32

OURS = {
    "bfloat16": ("--precision", "bfloat16"),
    "float32": ("--precision", "float32"),
    "bfloat16, gradient checkpointing": ("--precision", "bfloat16", "--checkpointing"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=existing, required=True, help="the directory of `peers`")
    parser.add_argument("--python", default=sys.executable, help="that has their requirements")
    parser.add_argument("--shape", choices=("tiny", "base"), default="base")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        batches = str(Path(folder, "batches.npz"))
        theirs = {peer: their_peak(options, peer, batches) for peer in FLOAT32.split(",")}
        ours = {name: our_peak(options, rest, batches) for name, rest in OURS.items()}
    rows = [
        (peer, f"{peak:,.0f}", *(f"{mine / peak:.2f}" for mine in ours.values()))
        for peer, peak in sorted(theirs.items(), key=lambda pair: pair[1])
    ]
    head = (
        "peer, float32",
        "MiB",
        *(f"regard, {name}: {mine:,.0f}" for name, mine in ours.items()),
    )
    body = [
        measured_on(),
        "Peaks of whole processes; ours beside each peer's.",
        "",
        table(head, rows),
    ]
    write_section(f"Peak memory of training, {options.shape}", "\n".join(body))


def their_peak(options: argparse.Namespace, peer: str, batches: str) -> float:
    command = [options.python, "-m", "peers", "train", "--shape", options.shape, "--peer", peer]
    command += ["--windows", "1", "--dump-batches", batches]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return peak(command, environment, options.peers)


def our_peak(options: argparse.Namespace, rest: Sequence[str], batches: str) -> float:
    command = [sys.executable, str(Path(__file__).parent / "train.py"), "--batches", batches]
    return peak([*command, "--shape", options.shape, *rest], dict(os.environ))


def peak(command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> float:
    """MiB that a process held at most.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile("w+") as output:
        running = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            output.seek(0)
            raise SystemExit(f"status {running.returncode}: {' '.join(command)}\n{output.read()}")
    return used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
