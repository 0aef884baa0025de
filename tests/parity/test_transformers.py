"""Against the newest ``transformers``: a grid of random models, drawn from a printed seed.

``REGARD_GRID_SEED=7`` draws another grid. A few cases of each format run in ``make test``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import regard
from regard.decoding import DecodingSpec, LengthPenalty, Request, beam, continue_from, search
from regard.interop.hf import read_tensors
from regard.interop.runs import export_hf, read_hf, write_run

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("default")

SEED = os.environ.get("REGARD_GRID_SEED", "1")
FAST, ALL = 2, 40
TOLERANCE = 1e-4
NEW_TOKENS = 50
STOPS = {False: "present", True: "first", "never": "bound"}


def cases(names: list[str]) -> list[Any]:
    """``name-seed-number``; those past the first few are slow."""
    return [
        pytest.param(name, n, id=f"{name}-{SEED}-{n}", marks=pytest.mark.slow if n >= FAST else ())
        for name in names
        for n in range(ALL)
    ]


def drawn(name: str, number: int) -> tuple[random.Random, Any]:
    """The generator of a case, and its model with weights of which none is trivial."""
    rng = random.Random(f"{SEED}-{name}-{number}")
    torch.manual_seed(rng.randrange(1 << 30))
    model = MAKERS[name](rng).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if name == "marian" and "embed_positions" in key:  # fixed waves
                continue
            around = 1.0 if "norm" in key.lower() or "ln_" in key else 0.0
            around = around if key.endswith("weight") and parameter.dim() == 1 else 0.0
            parameter.copy_(around + 0.2 * torch.randn_like(parameter))
        if name == "marian":
            model.final_logits_bias.normal_(std=0.2)
    return rng, model


def sizes(rng: random.Random) -> tuple[int, int]:
    """Heads and width; odd numbers of heads too."""
    heads = rng.choice([1, 2, 3, 5, 7])
    return heads, heads * rng.choice([3, 4, 5, 8])


def gpt2(rng: random.Random) -> Any:
    heads, width = sizes(rng)
    config = transformers.GPT2Config(
        vocab_size=rng.randrange(20, 150),
        n_positions=96,
        n_embd=width,
        n_layer=rng.randrange(1, 4),
        n_head=heads,
        n_inner=rng.choice([None, 17, 40]),
        activation_function=rng.choice(["gelu_new", "gelu", "relu", "silu", "gelu_pytorch_tanh"]),
        layer_norm_epsilon=rng.choice([1e-5, 1e-3]),
        tie_word_embeddings=rng.random() < 0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def llama(rng: random.Random) -> Any:
    kv_heads = rng.choice([1, 2, 3, 5])
    heads = kv_heads * rng.choice([1, 2, 3])
    rope: dict[str, Any] = rng.choice(
        [
            {"rope_type": "default"},
            {"rope_type": "linear", "factor": 2.0},
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ]
    )
    config = transformers.LlamaConfig(
        vocab_size=rng.randrange(20, 150),
        hidden_size=heads * rng.choice([2, 4, 6]),
        intermediate_size=rng.choice([13, 40]),
        num_hidden_layers=rng.randrange(1, 4),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=rng.choice([None, 6, 10]),
        max_position_embeddings=96,
        hidden_act=rng.choice(["silu", "gelu", "relu"]),
        rms_norm_eps=rng.choice([1e-5, 1e-6]),
        rope_parameters={"rope_theta": rng.choice([10_000.0, 500_000.0]), **rope},
        tie_word_embeddings=rng.random() < 0.5,
        attention_bias=rng.random() < 0.5,
        mlp_bias=rng.random() < 0.5,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.LlamaForCausalLM(config)


def bert_like(family: str, rng: random.Random, **more: Any) -> Any:
    heads, width = sizes(rng)
    endings = ["ForMaskedLM", "ForMaskedLM", "Model", "ForTokenClassification"]
    endings += ["ForQuestionAnswering", "ForSequenceClassification"]
    endings += ["ForPreTraining"]
    ending = rng.choice(endings[: {"DistilBert": 5, "Roberta": 6, "Bert": 7}[family]])
    names = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    }
    settings = {
        "vocab_size": rng.randrange(20, 150),
        "hidden_size": width,
        "num_hidden_layers": rng.randrange(1, 4),
        "num_attention_heads": heads,
        "intermediate_size": rng.choice([11, 40]),
        "hidden_act": rng.choice(["gelu", "relu", "gelu_new", "silu"]),
        "max_position_embeddings": 48,
        "num_labels": 2 if ending == "ForQuestionAnswering" else rng.choice([1, 2, 5]),
        **more,
    }
    if family == "DistilBert":
        settings = {names.get(key, key): value for key, value in settings.items()}
    config = getattr(transformers, f"{family}Config")(**settings)
    return getattr(transformers, family + ending)(config)


def bert(rng: random.Random) -> Any:
    return bert_like("Bert", rng, type_vocab_size=rng.randrange(1, 4), pad_token_id=0)


def roberta(rng: random.Random) -> Any:
    more = {"type_vocab_size": rng.randrange(1, 3), "pad_token_id": rng.choice([1, 0, 4])}
    return bert_like("Roberta", rng, **more)


def distilbert(rng: random.Random) -> Any:
    return bert_like("DistilBert", rng, pad_token_id=0)


def marian(rng: random.Random) -> Any:
    width = 24
    vocab_size, shared = rng.randrange(20, 150), rng.random() < 0.6
    target_size = vocab_size if shared else rng.randrange(20, 150)
    pad = min(vocab_size, target_size) - 1
    stacks = {
        f"{stack}_{key}": rng.choice(values)
        for stack in ("encoder", "decoder")
        for key, values in (
            ("layers", [1, 2, 3]),
            ("attention_heads", [1, 2, 3, 4]),
            ("ffn_dim", [11, 40]),
        )
    }
    config = transformers.MarianConfig(
        vocab_size=vocab_size,
        decoder_vocab_size=target_size,
        share_encoder_decoder_embeddings=shared,
        tie_word_embeddings=shared or rng.random() < 0.5,
        d_model=width,
        max_position_embeddings=96,
        activation_function=rng.choice(["swish", "relu", "gelu"]),
        scale_embedding=rng.random() < 0.5,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        forced_eos_token_id=None,
        **stacks,
    )
    return transformers.MarianMTModel(config)


def t5(rng: random.Random) -> Any:
    """v1.0, v1.1 and what stands between: head, scaling and activation are each their own."""
    config = transformers.T5Config(
        vocab_size=rng.randrange(20, 150),
        d_model=rng.choice([16, 24]),
        d_kv=rng.choice([4, 7]),
        d_ff=rng.choice([11, 40]),
        num_layers=rng.randrange(1, 4),
        num_decoder_layers=rng.choice([None, 1, 3]),
        num_heads=rng.randrange(1, 5),
        relative_attention_num_buckets=rng.choice([8, 10, 32]),
        relative_attention_max_distance=rng.choice([20, 128]),
        layer_norm_epsilon=rng.choice([1e-6, 1e-3]),
        feed_forward_proj=rng.choice(["relu", "gelu", "gated-gelu", "gated-silu"]),
        tie_word_embeddings=rng.random() < 0.5,  # there: whether the head reads scaled states
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config)
    if rng.random() < 0.5:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.shared.weight))
    return model


MAKERS: dict[str, Callable[[random.Random], Any]] = {
    "gpt2": gpt2,
    "llama": llama,
    "bert": bert,
    "roberta": roberta,
    "distilbert": distilbert,
    "marian": marian,
    "t5": t5,
}
DECODERS = ["gpt2", "llama"]


def brought_in(model: Any, directory: Path, rng: random.Random) -> Any:
    """The same model through a directory of theirs and a run of ours; some in shards."""
    shards = {"max_shard_size": "4KB"} if rng.random() < 0.3 else {}
    model.save_pretrained(directory / "theirs", **shards)
    write_run(read_hf(directory / "theirs"), directory / "run")
    return regard.load(directory / "run")


def ids_and_mask(rng: random.Random, size: int, pad: int) -> tuple[Tensor, Tensor]:
    """Ids [3, 9] and where they are real: padding on either side, or holes."""
    ids = torch.randint(size, (3, 9))
    ids[ids == pad] = (pad + 1) % size
    mask = torch.ones(3, 9, dtype=torch.bool)
    side = rng.choice(["none", "right", "left", "holes"])
    for row, count in enumerate([0, 2, 5]):
        if side == "right":
            mask[row, 9 - count :] = False
        elif side == "left":
            mask[row, :count] = False
        elif side == "holes":
            mask[row, 1 : 1 + count] = False
    return ids.where(mask, torch.tensor(pad)), mask


@torch.no_grad()
def outputs(name: str, rng: random.Random, theirs: Any, ours: Any) -> list[tuple[Tensor, Tensor]]:
    """What both give for the same inputs, at real places."""
    config = theirs.config
    if name in ("marian", "t5"):
        ids, mask = ids_and_mask(rng, config.vocab_size, config.pad_token_id)
        entries = config.decoder_vocab_size if name == "marian" else config.vocab_size
        target = torch.randint(entries, (3, 7))
        logits = theirs(input_ids=ids, attention_mask=mask.long(), decoder_input_ids=target).logits
        return [(logits, ours(ids, target, source_mask=mask))]
    pad = config.pad_token_id if name == "roberta" else 0
    ids, mask = ids_and_mask(rng, config.vocab_size, pad)
    given: dict[str, Any] = {"input_ids": ids, "attention_mask": mask.long()}
    mine: dict[str, Any] = {"mask": mask}
    counted = (mask.cumsum(1) - 1).clamp(min=0)
    if name in DECODERS and rng.random() < 0.5:
        given["position_ids"] = mine["positions"] = counted
    if name == "roberta":  # counts its positions over what is no padding
        mine["positions"] = counted
    if name in ("bert", "roberta") and config.type_vocab_size > 1 and rng.random() < 0.7:
        segments = torch.randint(config.type_vocab_size, ids.shape)
        given["token_type_ids"] = mine["segments"] = segments
    found, made = theirs(**given), ours(ids, **mine)
    if "start_logits" in found:
        expected = torch.stack([found.start_logits, found.end_logits], dim=-1)
    else:
        names = ("last_hidden_state", "prediction_logits", "logits")
        expected = next(found[key] for key in names if key in found)
    if isinstance(made, tuple):
        summary = found.pooler_output if "pooler_output" in found else found.seq_relationship_logits
        pairs = [(expected, made[0]), (summary, made[1])]
    else:
        pairs = [(expected, made)]
    # A summary of a text is of its first token: where that is padding it means nothing.
    kept = [mask if a.dim() == 3 else mask[:, 0] for a, _ in pairs]
    return [(a[real], b[real]) for (a, b), real in zip(pairs, kept, strict=True)]


@pytest.mark.parametrize(("name", "number"), cases(list(MAKERS)))
def test_a_model_of_theirs(name: str, number: int, tmp_path: Path) -> None:
    """In: the same numbers. Out: the same bits, and they load it."""
    rng, theirs = drawn(name, number)
    ours = brought_in(theirs, tmp_path, rng).model
    for expected, made in outputs(name, rng, theirs, ours):
        assert expected.shape == made.shape
        assert (expected - made).abs().max() < TOLERANCE
    export_hf(tmp_path / "run", tmp_path / "back")
    before, after = (read_tensors(tmp_path / one) for one in ("theirs", "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    again, told = type(theirs).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(told.values()), told
    held = again.state_dict()
    assert all(torch.equal(held[key], value) for key, value in theirs.state_dict().items())
    for expected, made in outputs(name, random.Random(0), again.eval(), ours):
        assert (expected - made).abs().max() < TOLERANCE


def generated(
    rng: random.Random,
    theirs: Any,
    ours: Any,
    prompts: list[list[int]],
    spec: DecodingSpec,
    end: int,
) -> tuple[list[list[int]], list[list[int]]]:
    """What both write on; theirs in one batch with padding on the left, ours one by one."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prompts])
    found = theirs.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        **beam_options(spec),
    )
    expected = [cut(row[longest:].tolist(), end) for row in found]
    made = []
    for row in prompts:
        request = Request(end_id=end, limits=[NEW_TOKENS], prefixes=[[]], indices=[0])
        with torch.inference_mode():
            state = ours.start(1, width=spec.width)
        ((one,),) = continue_from(ours, state, torch.tensor([row]), spec, request)
        made.append(one.tokens)
    return expected, made


def beam_options(spec: DecodingSpec) -> dict[str, Any]:
    if spec.strategy == "greedy":
        return {"num_beams": 1}
    early = next(key for key, value in STOPS.items() if value == spec.stop)
    return {
        "num_beams": spec.beam,
        "early_stopping": early,
        "length_penalty": spec.length_penalty.alpha,
    }


def cut(row: list[int], end: int) -> list[int]:
    return row[: row.index(end)] if end in row else row


def specs(rng: random.Random) -> list[DecodingSpec]:
    """Greedy, and each way that their beams stop."""
    alpha = rng.choice([0.0, 0.6, 1.0, 2.0])
    return [DecodingSpec(strategy="greedy")] + [
        DecodingSpec(beam=4, stop=stop, length_penalty=LengthPenalty("power", alpha))  # type: ignore[arg-type]
        for stop in STOPS.values()
    ]


@pytest.mark.parametrize(("name", "number"), cases(DECODERS))
def test_what_a_decoder_writes(
    name: str, number: int, tmp_path: Path, nearest: list[float]
) -> None:
    rng, theirs = drawn(name, number)
    ours = brought_in(theirs, tmp_path, rng).model
    size = theirs.config.vocab_size
    prompts = [[rng.randrange(size) for _ in range(length)] for length in (1, 4, 7)]
    greedy, *beams = specs(rng)
    # A token that is written early often ends many outputs before the limit.
    free, _ = generated(rng, theirs, ours, prompts, greedy, size - 1)
    ends = [size - 1, free[1][min(12, len(free[1]) - 1)] if free[1] else 0]
    for end in ends:
        for spec in (greedy, *beams):
            expected, made = generated(rng, theirs, ours, prompts, spec, end)
            check_written(expected, made, spec, nearest)


@pytest.mark.parametrize(("name", "number"), cases(["marian", "t5"]))
def test_what_a_translator_writes(
    name: str, number: int, tmp_path: Path, nearest: list[float]
) -> None:
    rng, theirs = drawn(name, number)
    if name == "marian":
        theirs.final_logits_bias[0, 0] += rng.choice([0.0, 1.0, 2.0])  # of the end
    ours = brought_in(theirs, tmp_path, rng).model
    config = theirs.config
    ids, mask = ids_and_mask(rng, config.vocab_size, config.pad_token_id)
    start, end = config.decoder_start_token_id, config.eos_token_id
    for spec in specs(rng):
        found = theirs.generate(
            input_ids=ids,
            attention_mask=mask.long(),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            bad_words_ids=[[start]],
            use_cache=name != "t5",  # theirs fails where the stacks' depths differ
            **beam_options(spec),
        )
        expected = [cut(row[1:].tolist(), end) for row in found]
        hypotheses = search(
            ours, ids, mask, replace(spec, max_length=NEW_TOKENS), start_id=start, end_id=end
        )
        check_written(expected, [row[0].tokens for row in hypotheses], spec, nearest)


TIE = 5e-5
"""Sums of 50 log-probabilities this near are the same in float32."""


@pytest.fixture
def nearest(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How near each step's last kept candidate was to the first that was not."""
    found: list[float] = []
    expand = beam.expand

    def watched(*given: Any) -> Any:
        made = expand(*given)
        gaps = made.logprobs[:, 3:-1] - made.logprobs[:, 4:]
        found.extend(gaps[gaps.isfinite()].tolist())
        return made

    monkeypatch.setattr(beam, "expand", watched)
    return found


def check_written(
    expected: list[list[int]], made: list[list[int]], spec: DecodingSpec, nearest: list[float]
) -> None:
    """Identical, unless two candidates tied; our rules put the finished first at the limit."""
    tied = spec.strategy == "beam" and min(nearest) < TIE
    nearest.clear()
    for theirs, ours in zip(expected, made, strict=True):
        unfinished = len(theirs) == NEW_TOKENS
        if unfinished and spec.strategy == "beam" and spec.stop != "present":
            continue
        assert theirs == ours or tied, spec
