"""The jobs of `benchmarks.speed.beside`: what peers do, and which of our scripts does the same."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """What the peers do, and what regard does beside them.

    Attributes:
        arguments: of the peers' harness.
        script: ours.
        precision: in which it runs.
        said: in the table's title.
        unit: of the rates.
    """

    arguments: tuple[str, ...]
    script: tuple[str, ...]
    precision: str
    said: str
    unit: str = "tokens a second"


def _train(shape: str, precision: str) -> Job:
    peers = FLOAT32 if precision == "float32" else f"{FLOAT32},{BFLOAT16}"
    arguments = ("train", "--shape", shape, "--peer", peers, "--dump-batches", BATCHES)
    return Job(arguments, ("train.py",), precision, f"training at {shape}", "real tokens a second")


def _kept_heap(job: Job) -> Job:
    """The same, with the peers' freed memory kept as ours is."""
    said = f"{job.said}, the peers' freed memory kept too"
    return replace(job, arguments=(*job.arguments, "--keep-heap"), said=said)


def _decode(shape: str, precision: str, peers: str) -> Job:
    arguments = ("decode", "--shape", shape, "--peer", peers)
    return Job(arguments, ("decode.py", "--warmup", "1"), precision, f"decoding at {shape}")


def _without_operators(job: Job) -> Job:
    """The same as where there is no compiler."""
    return replace(job, script=(*job.script, "--parts"), said=f"{job.said}, without a compiler")


BATCHES = str(Path(tempfile.gettempdir()) / "regard-bench-batches.npz")
FLOAT32 = "torch,marian-sdpa,x-transformers,eole,fairseq"
BFLOAT16 = "torch-bf16,marian-sdpa-bf16,eole-bf16"
CT2 = "ctranslate2,ctranslate2-split"
CT2_INT8 = "ctranslate2-int8,ctranslate2-int8-split"
STEPS = (
    ("bert", "BERT-base, masked LM, 8 × 128", "tokens a second"),
    ("t5", "T5-small, 16 × (64 + 64)", "tokens of both sides a second"),
    ("vit", "ViT-tiny/16, 32 pictures of 224 × 224", "pictures a second"),
)
JOBS = {
    **{
        f"train-{shape}-{precision}": _train(shape, precision)
        for shape in ("tiny", "base")
        for precision in ("float32", "bfloat16")
    },
    **{
        f"train-{shape}-bfloat16-heap": _kept_heap(_train(shape, "bfloat16"))
        for shape in ("tiny", "base")
    },
    **{
        f"lm-{precision}": Job(
            ("lm", "--peer", "nanogpt-fused,nanogpt-compile-fused"),
            ("step.py", "gpt"),
            precision,
            "nanoGPT's steps",
        )
        for precision in ("float32", "bfloat16")
    },
    **{
        f"{model}-{precision}": Job((model,), ("step.py", model), precision, said, unit)
        for model, said, unit in STEPS
        for precision in ("float32", "bfloat16")
    },
    "decode-tiny-without": _without_operators(_decode("tiny", "float32", f"{CT2},{CT2_INT8}")),
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
