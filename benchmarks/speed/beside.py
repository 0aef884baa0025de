"""Time regard beside its peers, window after window in one run, and write the tables.

    python -m benchmarks.speed.beside --peers DIR --python PEERS_PYTHON [JOB …] [--windows N]

DIR holds the harness `peers`, PEERS_PYTHON has its requirements. Each job is written to
``benchmarks/results/JOB.json`` and as a table into RESULTS.md. Without names all jobs run; a peer
that is not installed has no row. ``make bench PEERS=DIR PEERS_PYTHON=…`` does the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import existing, measured_on, table, write_section
from benchmarks.speed.jobs import JOBS, Job

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
TITLE = "Beside peers: "
CASES = {"cpu": "nanoGPT's CPU size", "gpu": "nanoGPT's GPU size"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=", ".join(JOBS))
    parser.add_argument("--peers", type=existing, required=True, help="the directory of `peers`")
    parser.add_argument("--python", default=sys.executable, help="that has their requirements")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--nanogpt", type=existing, help="a checkout of nanoGPT, for the jobs lm-…")
    options = parser.parse_args()
    unknown = [name for name in options.jobs if name not in JOBS]
    if unknown:
        parser.error(f"there is no job {unknown[0]!r}; there are {', '.join(JOBS)}")
    for name in options.jobs or JOBS:
        report = run(JOBS[name], options, RESULTS / f"{name}.json")
        title = f"{TITLE}{JOBS[name].said}, regard in {JOBS[name].precision}"
        write_section(title, described(report, options.windows, JOBS[name].unit))


def run(job: Job, options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Run a job, and read what the harness wrote."""
    script, *arguments = job.script
    ours = [sys.executable, str((HERE / script).resolve()), *arguments]
    ours += ["--precision", job.precision]
    command = [options.python, "-m", "peers", *job.arguments]
    command += ["--windows", str(options.windows), "--json", str(output.resolve())]
    command += ["--versus", " ".join(ours)]
    if options.nanogpt:
        command += ["--nanogpt", str(options.nanogpt.resolve())]
    # the paths of this process are not the peers'
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=options.peers, env=environment, check=True)
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    for row in found["rows"]:
        row["case"] = f"{CASES.get(row['case'], row['case'])}, {job.precision}"
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def described(report: dict[str, Any], windows: int, unit: str) -> str:
    """The machine, the versions and a table of the rows."""
    header = ("case", "peer", "its median", "regard", "ratio (min–max)", "other processes, cores")
    rows = [line(row) for row in report["rows"] if row.get("rate") and row.get("ratio")]
    lacking = {f"{row['peer']} ({row['note']})" for row in report["rows"] if row.get("note")}
    versions = [f"{name} {version}" for name, version in report["versions"].items()]
    there = ", ".join(one for one in versions if "not installed" not in one)
    said = f"Peers: {there}; {windows} windows each in turn, {unit}."
    missing = f" Without a row: {', '.join(sorted(lacking))}." if lacking else ""
    return f"{measured_on()} {said}{missing}\n\n{table(header, rows)}"


def line(row: dict[str, Any]) -> Sequence[str]:
    """One peer in one case."""
    ratio = row["ratio"]
    return (
        row["case"],
        row["peer"],
        f"{row['rate']['median']:,.0f}",
        f"{row['versus']['median']:,.0f}",
        f"**{ratio['median']:.2f}** ({ratio['low']:.2f}–{ratio['high']:.2f})",
        f"{row['foreign']:.2f}",
    )


if __name__ == "__main__":
    main()
