"""The peers of `benchmarks.speed.gpu`: nanoGPT from a checkout, GPT-2 and Marian of transformers.

Trained as their users do in bfloat16: autocast over float32 weights, fused AdamW, clipped.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmarks.speed.gpu_sizes import Place, Size, Step, Text
from torch import Tensor, nn
from torch.nn import functional as F


def training(size: Size, checkout: Path | None) -> dict[str, Callable[[Size, Place], Step]]:
    """The peers that train such a model."""
    if size.family == "gpt":
        return {"nanoGPT": partial(train_nanogpt, checkout), "transformers": train_gpt2}
    return {"transformers (Marian)": train_marian}


def train_nanogpt(checkout: Path | None, size: Size, place: Place) -> Step:
    if checkout is None:
        raise ImportError("not given: --nanogpt DIR")
    spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = size.config()
    model = module.GPT(
        module.GPTConfig(
            block_size=config.max_positions,
            vocab_size=config.vocab_size,
            n_layer=config.num_layers,
            n_head=config.layer.attention.num_heads,
            n_embd=config.d_model,
            dropout=config.layer.dropout,
            bias=True,
        )
    )
    model.to(place.device).train()
    optimizer = model.configure_optimizers(0.1, 1e-4, (0.9, 0.95), place.device.type)
    run = place.compiled(model)
    ids = torch.randint(size.vocabulary, (size.rows, size.length + 1), device=place.device)
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
    return steps(model, lambda: run(inputs, labels)[1], optimizer, size, place)


def train_gpt2(size: Size, place: Place) -> Step:
    model = gpt2(size).to(place.device).train()
    run = place.compiled(model)
    ids = torch.randint(size.vocabulary, (size.rows, size.length + 1), device=place.device)

    def loss() -> Tensor:
        logits = run(input_ids=ids[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    return steps(model, loss, adamw(model), size, place)


def train_marian(size: Size, place: Place) -> Step:
    from transformers import AutoModelForSeq2SeqLM, MarianConfig

    config = size.config()
    layer = config.encoder.layer
    both = {
        "layers": config.encoder.num_layers,
        "attention_heads": layer.attention.num_heads,
        "ffn_dim": layer.feed_forward.d_ff,
    }
    sides = {f"{side}_{key}": held for side in ("encoder", "decoder") for key, held in both.items()}
    marian = MarianConfig(
        vocab_size=size.vocabulary,
        d_model=config.d_model,
        dropout=layer.dropout,
        activation_function=layer.feed_forward.activation,
        scale_embedding=config.embedding.scale,
        max_position_embeddings=config.max_positions,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
        **sides,
    )
    model = AutoModelForSeq2SeqLM.from_config(marian, attn_implementation="sdpa")
    model.to(place.device).train()
    run = place.compiled(model)
    source = torch.randint(3, size.vocabulary, (size.rows, size.length), device=place.device)
    target = torch.randint(3, size.vocabulary, (size.rows, size.length + 1), device=place.device)
    mask = torch.ones_like(source)

    def loss() -> Tensor:
        logits = run(
            input_ids=source,
            attention_mask=mask,
            decoder_input_ids=target[:, :-1],
            use_cache=False,
        ).logits
        labels = target[:, 1:].flatten()
        return F.cross_entropy(logits.flatten(0, 1), labels, label_smoothing=0.1)

    return steps(model, loss, adamw(model), size, place)


def gpt2(size: Size) -> Any:
    from transformers import AutoModelForCausalLM, GPT2Config

    config = size.config()
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.layer.dropout)
    theirs = GPT2Config(
        vocab_size=size.vocabulary,
        n_positions=config.max_positions,
        n_embd=config.d_model,
        n_layer=config.num_layers,
        n_head=config.layer.attention.num_heads,
        n_inner=config.layer.feed_forward.d_ff,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **dropouts,
    )
    return AutoModelForCausalLM.from_config(theirs, attn_implementation="sdpa")


def decode_gpt2(text: Text, place: Place) -> Step:
    """`generate` with its static cache, which it compiles by itself on a GPU."""
    model = gpt2(text.size).to(place.device, torch.bfloat16).eval()
    prompts = torch.randint(
        1, text.size.vocabulary, (text.size.rows, text.prompt), device=place.device
    )
    mask = torch.ones_like(prompts)

    @torch.inference_mode()
    def step() -> int:
        found = model.generate(
            input_ids=prompts,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=text.new,
            max_new_tokens=text.new,
            cache_implementation="static",
            disable_compile=not place.compile,
        )
        return found[:, text.prompt :].numel()

    return step


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)


def steps(
    model: nn.Module,
    loss: Callable[[], Tensor],
    optimizer: torch.optim.Optimizer,
    size: Size,
    place: Place,
) -> Step:
    """Forward under autocast, backward, clip, step."""

    def step() -> int:
        with torch.autocast(place.device.type, torch.bfloat16):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return size.tokens

    return step
