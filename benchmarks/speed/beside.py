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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import measured_on, table, write_section

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
TITLE = "Beside peers: "


@dataclass(frozen=True)
class Job:
    """What the peers do, and what regard does beside them.

    Attributes:
        arguments: of the peers' harness.
        script: ours.
        precision: in which it runs.
        said: in the table's title.
    """

    arguments: tuple[str, ...]
    script: tuple[str, ...]
    precision: str
    said: str


def _decode(shape: str, precision: str, peers: str) -> Job:
    arguments = ("decode", "--shape", shape, "--peer", peers)
    return Job(arguments, ("decode.py", "--warmup", "1"), precision, f"decoding at {shape}")


CT2 = "ctranslate2,ctranslate2-split"
CT2_INT8 = "ctranslate2-int8,ctranslate2-int8-split"
JOBS = {
    "decode-base-float32": _decode("base", "float32", f"marian,{CT2}"),
    "decode-base-int8": _decode("base", "int8", f"marian-bf16,{CT2},{CT2_INT8}"),
    "decode-tiny-float32": _decode("tiny", "float32", f"marian,{CT2}"),
    "decode-tiny-int8": _decode("tiny", "int8", f"marian-bf16,{CT2},{CT2_INT8}"),
    "generate-float32": Job(
        ("generate", "--peer", f"gpt2,{CT2},llama.cpp"),
        ("generate.py",),
        "float32",
        "GPT-2 (124M) generation",
    ),
    "generate-int8": Job(
        ("generate", "--peer", f"gpt2-bf16,{CT2_INT8},llama.cpp-q8_0"),
        ("generate.py",),
        "int8",
        "GPT-2 (124M) generation",
    ),
    **{
        f"encode-{precision}": Job(
            ("encode", "--peer", "bert,bert-bf16,onnxruntime,onnxruntime-int8"),
            ("encode.py",),
            precision,
            "BERT-base states, rows of 128",
        )
        for precision in ("bfloat16", "int8")
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=", ".join(JOBS))
    parser.add_argument("--peers", type=Path, required=True, help="the directory of `peers`")
    parser.add_argument("--python", default=sys.executable, help="that has their requirements")
    parser.add_argument("--windows", type=int, default=5)
    options = parser.parse_args()
    unknown = [name for name in options.jobs if name not in JOBS]
    if unknown:
        parser.error(f"there is no job {unknown[0]!r}; there are {', '.join(JOBS)}")
    for name in options.jobs or JOBS:
        report = run(JOBS[name], options, RESULTS / f"{name}.json")
        title = f"{TITLE}{JOBS[name].said}, regard in {JOBS[name].precision}"
        write_section(title, described(report, options.windows))


def run(job: Job, options: argparse.Namespace, output: Path) -> dict[str, Any]:
    """Run a job, and read what the harness wrote."""
    script, *arguments = job.script
    ours = [sys.executable, str((HERE / script).resolve()), *arguments]
    ours += ["--precision", job.precision]
    command = [options.python, "-m", "peers", *job.arguments]
    command += ["--windows", str(options.windows), "--json", str(output.resolve())]
    command += ["--versus", " ".join(ours)]
    # the paths of this process are not the peers'
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, cwd=options.peers, env=environment, check=True)
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    for row in found["rows"]:
        row["case"] += f", {job.precision}"
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def described(report: dict[str, Any], windows: int) -> str:
    """The machine, the versions and a table of the rows."""
    header = ("case", "peer", "its median", "regard", "ratio (min–max)", "other processes, cores")
    rows = [line(row) for row in report["rows"] if row.get("rate") and row.get("ratio")]
    versions = [f"{name} {version}" for name, version in report["versions"].items()]
    there = ", ".join(one for one in versions if "not installed" not in one)
    said = f"Peers: {there}; {windows} windows each in turn, tokens a second."
    return f"{measured_on()} {said}\n\n{table(header, rows)}"


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
