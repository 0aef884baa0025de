"""CTranslate2's side of `benchmarks.speed.file`: run by a Python that has ctranslate2, tokenizers.

    python file_ctranslate2.py convert WEIGHTS OUTPUT float32|int8
    python file_ctranslate2.py translate MODEL INPUT OUTPUT SETTINGS
    python file_ctranslate2.py scout MODEL INPUT SETTINGS …

WEIGHTS holds ours under our names (weights.npz, model.json, tokenizer.json), SETTINGS is JSON (see
`Settings`). ``translate`` is what a user writes: lines in, lines out. ``scout`` prints the seconds
of each of its settings, the model loaded before, the best of two passes; infinite where the threads
so used took twice as long as another way before.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PASSES, HOPELESS = 2, 2.0


@dataclass(frozen=True)
class Settings:
    """Of threads, batches and search."""

    compute: str
    inter: int
    intra: int
    batch: int
    by: str  # examples or tokens
    beam: int
    alpha: float
    min_length: int
    max_length: int


def convert(source: Path, output: Path, quantization: str) -> None:
    """Our weights as CTranslate2 wants them; the tokenizer goes along."""
    import numpy as np
    from ctranslate2.specs import common_spec, transformer_spec

    weights, model = (
        np.load(source / "weights.npz"),
        json.loads((source / "model.json").read_text()),
    )

    def linear(spec, name):
        spec.weight = weights[f"{name}.weight"]
        if f"{name}.bias" in weights.files:
            spec.bias = weights[f"{name}.bias"]

    def norm(spec, name):
        spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def attention(spec, name, first):
        for part, theirs in zip(spec.linear, [*first, "output"], strict=True):
            linear(part, f"{name}.sublayer.{theirs}")
        norm(spec.layer_norm, f"{name}.norm")

    spec = transformer_spec.TransformerSpec.from_config(
        tuple(model["layers"]),
        model["heads"],
        pre_norm=model["pre_norm"],
        activation=getattr(common_spec.Activation, model["activation"].upper()),
    )
    for stack, side in (("encoder", spec.encoder), ("decoder", spec.decoder)):
        side.scale_embeddings = model["scale"]
        side.position_encodings.encodings = weights["positions"]
        if model["pre_norm"]:
            norm(side.layer_norm, f"{stack}.norm")
        for number, layer in enumerate(side.layer):
            name = f"{stack}.layers.{number}"
            attention(layer.self_attention, f"{name}.self_attention", ["qkv"])
            if stack == "decoder":
                attention(layer.attention, f"{name}.cross_attention", ["query", "key_value"])
            linear(layer.ffn.linear_0, f"{name}.feed_forward.sublayer.expand")
            linear(layer.ffn.linear_1, f"{name}.feed_forward.sublayer.contract")
            norm(layer.ffn.layer_norm, f"{name}.feed_forward.norm")
    spec.encoder.embeddings[0].weight = weights["source_embedding.weight"]
    spec.decoder.embeddings.weight = weights["target_embedding.weight"]
    linear(spec.decoder.projection, "head")
    spec.register_source_vocabulary(model["vocabulary"])
    spec.register_target_vocabulary(model["vocabulary"])
    spec.config.bos_token = spec.config.decoder_start_token = model["start"]
    spec.config.eos_token, spec.config.unk_token = model["end"], model["unk"]
    spec.config.add_source_eos = True
    spec.validate()
    spec.optimize(quantization=quantization)
    output.mkdir()
    spec.save(str(output))
    for name in ("tokenizer.json", "model.json"):
        (output / name).write_text((source / name).read_text())


class Translator:
    """A loaded model and its tokenizer."""

    def __init__(self, model: Path, settings: Settings) -> None:
        import ctranslate2
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.continuation = json.loads((model / "model.json").read_text())["continuation"]
        self.model = ctranslate2.Translator(
            str(model),
            device="cpu",
            compute_type=settings.compute,
            inter_threads=settings.inter,
            intra_threads=settings.intra,
        )

    def __call__(self, lines: list[str], settings: Settings) -> list[str]:
        rows = [one.tokens for one in self.tokenizer.encode_batch(lines)]
        found = self.model.translate_batch(
            rows,
            beam_size=settings.beam,
            length_penalty=settings.alpha,
            min_decoding_length=settings.min_length,
            max_decoding_length=settings.max_length,
            max_batch_size=settings.batch,
            batch_type=settings.by,
        )
        ids = [[self.tokenizer.token_to_id(x) for x in one.hypotheses[0]] for one in found]
        texts = self.tokenizer.decode_batch(ids)
        mark = self.continuation
        return [one.replace(f"{mark} ", "") for one in texts] if mark else texts


def translate(model: Path, source: Path, output: Path, settings: Settings) -> None:
    lines = source.read_text(encoding="utf-8").splitlines()
    found = Translator(model, settings)(lines, settings)
    output.write_text("\n".join(found) + "\n", encoding="utf-8")


def scout(model: Path, source: Path, several: list[Settings]) -> None:
    lines = source.read_text(encoding="utf-8").splitlines()
    best: dict[tuple[int, int], float] = {}  # of each way to use the threads
    for settings in several:
        split = (settings.inter, settings.intra)
        hopeless = HOPELESS * min(best.values(), default=math.inf)
        if best.get(split, 0.0) > hopeless:
            print(math.inf, flush=True)
            continue
        translator, seconds = Translator(model, settings), list[float]()
        translator(lines[:64], settings)
        while len(seconds) < PASSES and max(seconds, default=0.0) <= hopeless:
            begun = time.perf_counter()
            translator(lines, settings)
            seconds.append(time.perf_counter() - begun)
        print(min(seconds), flush=True)
        best[split] = min([*seconds, best.get(split, math.inf)])


def main() -> None:
    verb, first, *rest = sys.argv[1:]
    if verb == "convert":
        convert(Path(first), Path(rest[0]), rest[1])
    elif verb == "translate":
        translate(Path(first), Path(rest[0]), Path(rest[1]), Settings(**json.loads(rest[2])))
    else:
        scout(Path(first), Path(rest[0]), [Settings(**json.loads(one)) for one in rest[1:]])


if __name__ == "__main__":
    main()
