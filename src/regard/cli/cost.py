"""``regard cost``: what a model will need, before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from regard.errors import InputError

if TYPE_CHECKING:
    from regard.cost import Cost
    from regard.recipe import Recipe

ASSUMED_VOCABULARY = 8000
"""Where neither recipe nor run says it: the tokenizers' own default."""

MILLION = 1e6


def cost(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's file or built-in name, or a run.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys set otherwise.")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="Tokens of the texts that the second table compares, 128,256,… 4096 by default; "
            "of pictures those of the model's size."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count a model's parameters, FLOPs and memory without building it.

    Counted from the model's own code under the dense kernel; other kernels hold less.

    regard cost wmt14-base

    regard cost multi30k-en-de model.num_layers=8 --lengths 32,64
    """
    from regard.cli.output import print_json
    from regard.cost import LENGTHS
    from regard.cost import cost as count

    found, config = _open(recipe, settings)
    usual = [config.tokens] if hasattr(config, "tokens") else LENGTHS
    wanted = usual if lengths is None else _lengths(lengths)
    precision = "bfloat16" if found.training.precision == "bfloat16" else "float32"
    optimizer = found.training.optimizer.kind
    counted = count(found.family, config, lengths=wanted, precision=precision, optimizer=optimizer)
    if as_json:
        print_json({"recipe": recipe, **counted.to_dict(), **_steps(found, counted)})
    else:
        _print(recipe, found, config, counted)


def _lengths(text: str) -> list[int]:
    try:
        return sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise InputError(
            f"{text!r} is no list of lengths", where="--lengths", hint="such as 128,512,2048"
        ) from None


def _open(recipe: str, settings: list[str] | None) -> tuple[Recipe, Any]:
    """The recipe (a run's is resolved already) and the config of its model."""
    import dataclasses

    from regard import registry
    from regard.recipe import Recipe, is_run

    found = Recipe.load(recipe, settings, settled=is_run(recipe))
    names = {field.name for field in dataclasses.fields(registry.family(found.family).config)}
    decided = {}
    if "vocab_size" in names and "vocab_size" not in found.model:
        decided["vocab_size"] = found.tokenizer.vocab_size or ASSUMED_VOCABULARY
        if not found.tokenizer.joint and "target_vocab_size" in names:
            decided["target_vocab_size"] = decided["vocab_size"]
    head = registry.task(found.task).stand_in.get("head")
    if head is not None and "head" in names and "head" not in found.model:
        decided["head"] = head
    return found, found.model_config_for(decided)


def _tokens(recipe: Recipe, counted: Cost, length: int) -> int:
    """Tokens on each side of the recipe's micro-batch, where its texts have this length."""
    training = recipe.training
    if training.batch_size is not None:
        return training.batch_size * length
    budget = training.batch_tokens or 4096
    return budget if training.batch_measure == "padded" else budget // counted.sides


def _steps(recipe: Recipe, counted: Cost) -> dict[str, Any]:
    rows = []
    for row in counted.lengths:
        tokens = _tokens(recipe, counted, row.length)
        checkpointing = recipe.training.gradient_checkpointing
        used = counted.step(tokens, row.length, checkpointing=checkpointing)
        rows.append({"length": row.length, "tokens": tokens, "bytes": used})
    return {"steps": rows}


def _print(recipe: str, found: Recipe, config: Any, counted: Cost) -> None:
    from regard.cli.output import console, print_table

    say = console().print
    vocabulary = getattr(config, "vocab_size", None)
    said = "" if vocabulary is None else f", vocabulary {vocabulary:,}"
    if vocabulary and "vocab_size" not in found.model and found.tokenizer.vocab_size is None:
        said += " (assumed: what the text has is not known here; give model.vocab_size=N)"
    say(f"{recipe}: {counted.family}, {counted.parameters:,} parameters{said}")
    head = getattr(config, "head", None)
    labels = dict(getattr(head, "options", ())).get("num_classes")  # what says words has none
    if labels is not None and "head" not in found.model:
        say(f"with a head for {labels} label(s) (assumed: how many there are, the data tell)")
    if found.adapter is not None or found.freeze:
        say("counted as if all of it trained, and without adapters")
    say("estimate = L(4d² + 2d·d_ff) + V·d, and another 4d² for each layer's cross-attention")
    pair = "token" if counted.sides == 1 else "source and target token"
    print_table(
        ["part", "parameters", "estimate", "kFLOP", "+ kFLOP per token seen"],
        [
            *(_part(p.name, p.parameters, p.estimate, p.flops, p.attention) for p in counted.parts),
            _part(
                "all",
                counted.parameters,
                counted.estimate,
                sum(part.flops for part in counted.parts),
                sum(part.attention for part in counted.parts),
            ),
        ],
        title=f"By part (FLOPs of one forward pass, each {pair})",
    )
    steps = _steps(found, counted)["steps"]
    print_table(
        ["length", "forward", "in attention", "training", "activations", "checkpointed", "a step"],
        [
            (
                f"{row.length:,}" + _beyond(row.length, counted),
                f"{row.forward / MILLION:,.1f}",
                f"{row.attention / row.forward:.1%}",
                f"{row.training / MILLION:,.1f}",
                f"{row.activations / 1e3:,.0f}",
                f"{row.checkpointed / 1e3:,.0f}",
                f"{step['bytes'] / MILLION:,.0f}",
            )
            for row, step in zip(counted.lengths, steps, strict=True)
        ],
        title=f"By length (each {pair}: MFLOP, kB in {counted.precision}; a step: MB in use)",
    )
    if any(_beyond(row.length, counted) for row in counted.lengths):
        say(f"* longer than model.max_positions = {counted.max_positions:,} allows")
    say(f"a step: {_step_means(found, counted, steps[0]['tokens'])}")
    _print_memory(counted)


def _print_memory(counted: Cost) -> None:
    from regard.cli.output import print_table

    print_table(
        ["training, MB", "weights", "gradients", "masters", "moments", "together"],
        [
            (m.precision, *map(_mega, (m.weights, m.gradients, m.masters, m.moments, m.total)))
            for m in counted.training
        ],
    )
    print_table(
        ["decoding", "weights, MB", "kB per source token", "kB per token of a hypothesis"],
        [
            (
                m.precision,
                _mega(m.weights),
                f"{m.per_source_token / 1e3:,.1f}",
                f"{m.per_token / 1e3:,.1f}",
            )
            for m in counted.decoding
        ],
    )


def _step_means(recipe: Recipe, counted: Cost, tokens: int) -> str:
    """What the last column of the second table holds."""
    from regard import registry
    from regard.cost import KEPT_HEAP

    if recipe.training.batch_size is None:
        size = f"{tokens:,} tokens" + (" a side" if counted.sides > 1 else "")
    else:
        size = f"{recipe.training.batch_size:,} {registry.task(recipe.task).inputs}"
    held = "weights, gradients, the optimizer's moments, activations"
    if recipe.training.gradient_checkpointing:
        return f"{held} (checkpointed) of a micro-batch of {size}"
    return f"{held} of a micro-batch of {size}; on a CPU, {KEPT_HEAP} times that stays resident"


def _part(name: str, parameters: int, estimate: int, flops: int, attention: int) -> tuple[str, ...]:
    return (
        name,
        f"{parameters:,}",
        f"{estimate:,}",
        f"{flops / 1e3:,.0f}",
        f"{attention / 1e3:,.1f}",
    )


def _beyond(length: int, counted: Cost) -> str:
    return "*" if counted.max_positions and length > counted.max_positions else ""


def _mega(size: int) -> str:
    return f"{size / MILLION:,.1f}"
