"""The sections of a recipe: every key with its type, default, unit and range.

Strict: an unknown key or a value of another type is an error. Only what every task shares stands
here; a family's, a kind's and a task's own keys are checked in stage two (`Recipe.resolved`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from regard.recipe.augmentation import Augmentation
from regard.recipe.section import Count, Fraction, Open, Pair, Positive, Section

Forms = tuple[tuple[str, ...], ...]

# Keys that stand for each other. What a higher layer gives replaces its alternatives below:
# training.max_epochs on the command line takes the place of a recipe's max_steps.
SPLIT_FORMS: Forms = (("source", "target"), ("file", "fields"), ("corpus",))
PERIODS: Forms = (("every_steps",), ("every_epochs",))
HORIZONS: Forms = (("max_steps",), ("max_epochs",))
BATCHES: Forms = (("batch_tokens", "batch_measure"), ("batch_size",))
ALTERNATIVES: dict[str, tuple[Forms, ...]] = {
    "data.train": (SPLIT_FORMS,),
    "data.valid": (SPLIT_FORMS,),
    "data.test": (SPLIT_FORMS,),
    "training": (HORIZONS, BATCHES),
    "training.checkpoint": (PERIODS,),
    "evaluation": (PERIODS,),
}


class Split(Open):
    """Where one part of the data comes from, in one of three forms.

    A recipe may say the fields and leave the file to the command line.
    """

    source: str | None = Field(None, description="file of source texts, one a line")
    target: str | None = Field(None, description="file of target texts, line by line the source's")
    file: str | None = Field(
        None,
        description="one .tsv, .csv, .jsonl or .parquet file instead; of pictures also a folder, "
        ".zip or .tar that holds a folder for each class, or Pascal VOC's, and COCO's .json",
    )
    fields: dict[str, str | int] | None = Field(
        None,
        description='its columns, e.g. { source = "en", target = "de" }; numbers from 1 where a '
        ".tsv or .csv has no header",
    )
    corpus: str | None = Field(
        None, description="a corpus that regard makes itself: demo or copy-digits"
    )

    def settings(self) -> dict[str, Any]:
        """The keys that are given, as a plain mapping."""
        return self.model_dump(exclude_none=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _one_of(self, SPLIT_FORMS)
        return self


class Data(Section):
    """The data of a run."""

    train: Split | None = Field(None, description="what the model learns from")
    valid: Split | None = Field(None, description="what it is watched on while it learns")
    test: Split | None = Field(None, description="what `regard evaluate` scores by default")
    max_length: Positive = Field(
        256, description="tokens of the longest text trained on; longer pairs are left out, counted"
    )
    stride: Positive | None = Field(
        None,
        description="question-answering: tokens between the beginnings of a long text's windows; "
        "default: 128",
    )
    prefix: str | None = Field(
        None,
        description="text-to-text, summarization: what stands before every source and says the "
        'task, e.g. "summarize: "',
    )
    cache: str | None = Field(
        None,
        description="directory of prepared data and learned tokenizers, shared by runs; default: "
        "inside the run",
    )
    roles: dict[str, str] | None = Field(
        None,
        description="dialogue: the marker before each role's turns; default: "
        '{ user = "<|user|>", assistant = "<|assistant|>" }',
    )
    answers: str | None = Field(
        None, description="dialogue: the role whose turns the model learns; default: assistant"
    )
    broken: Literal["error", "skip"] | None = Field(
        None,
        description="pictures: what becomes of one that cannot be read: error (the default), or "
        "skip, which leaves it out and counts it",
    )


class Mixed(Section):
    """One of several tasks in one run."""

    name: str | None = Field(None, description="of the task in scores; default: its number from 1")
    prefix: str = Field("", description="what stands before every source and says the task")
    rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="its share of the examples, beside the others' rates; default: its size"
    )
    metrics: list[str] | None = Field(None, description="its scores; default: all of the task's")
    train: Split = Field(description="what the model learns from")
    valid: Split | None = Field(None, description="what it is watched on while it learns")
    test: Split | None = Field(None, description="what `regard evaluate` scores by default")


class Tokenizer(Section):
    """How text becomes tokens."""

    kind: str = Field(
        "bpe",
        description="bpe, unigram, wordpiece, bytes, chars, or words (already segmented); imported "
        "comes with imported weights",
    )
    vocab_size: Annotated[int, Field(ge=5)] | None = Field(
        None,
        description="entries, the 4 special ones included; default: 8000 for bpe, unigram and "
        "wordpiece, all that occur for words and chars",
    )
    joint: bool = Field(True, description="one vocabulary for source and target")
    lowercase: bool = Field(False, description="make the text lower case first")
    continuation: str | None = Field(
        None, description='words only: how a piece ends that the next continues, e.g. "@@"'
    )


class Objective(Open):
    """What is minimised."""

    kind: str = Field("cross_entropy", description="which loss")
    label_smoothing: Fraction | None = Field(
        None,
        description="probability spread over all answers (paper, section 5.4); default: 0.1 for "
        "cross_entropy, else 0",
    )


class Optimizer(Section):
    """How a gradient becomes a step."""

    kind: str = Field(
        "adam",
        description="adam, adamw or adafactor (T5's: steps in proportion to each weight's size; "
        "rates of about 0.01)",
    )
    betas: Pair = Field(
        (0.9, 0.98), description="adam, adamw: decay of the two moments (paper, section 5.3)"
    )
    eps: Annotated[float, Field(gt=0)] = Field(
        1e-9, description="adam, adamw: added to the denominator"
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.0, description="adamw, adafactor: share of a matrix taken off per step, times the rate"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must be at least 0 and below 1")
        if self.kind == "adam" and self.weight_decay:
            raise ValueError('weight_decay is for kind = "adamw"')
        for key in ("betas", "eps") if self.kind == "adafactor" else ():
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} has no meaning for adafactor: leave it out")
        return self


class Schedule(Section):
    """The learning rate, step by step."""

    kind: str = Field(
        "inverse_sqrt",
        description="noam (the paper's), inverse_sqrt, cosine, linear, constant or wsd "
        "(warm-up, stable, decay)",
    )
    peak: Annotated[float, Field(gt=0)] = Field(
        5e-4, description="highest learning rate; noam follows from d_model and factor instead"
    )
    warmup_steps: Count = Field(4000, description="steps until the peak")
    factor: Annotated[float, Field(gt=0)] = Field(
        1.0, description="noam: multiplies d_model^-0.5 · min(step^-0.5, step · warmup_steps^-1.5)"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        # A key that would do nothing is an error, not a surprise after a night.
        other = "peak" if self.kind == "noam" else "factor"
        if getattr(self, other) != type(self).model_fields[other].default:
            raise ValueError(f"{other} has no meaning for the schedule {self.kind!r}: leave it out")
        return self


class Checkpoint(Section):
    """When weights are kept."""

    every_steps: Positive | None = Field(None, description="save after so many steps")
    every_epochs: Positive | None = Field(None, description="save after so many epochs")
    keep: Positive = Field(5, description="newest checkpoints that stay; the best stays too")
    average: Count = Field(
        0, description="average the weights of the last so many at the end; 0 = don't"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        _one_of(self, PERIODS)
        if self.average > self.keep:
            raise ValueError(f"average = {self.average} needs keep to be at least as large")
        return self


class Training(Section):
    """The run itself."""

    max_steps: Positive | None = Field(None, description="stop after so many steps")
    max_epochs: Positive | None = Field(None, description="stop after so many passes over the data")
    batch_tokens: Positive | None = Field(
        None,
        description="source + target tokens of one micro-batch, at most; 4096 if no size is given",
    )
    batch_size: Positive | None = Field(None, description="examples of one micro-batch instead")
    batch_measure: Literal["tokens", "padded"] = Field(
        "tokens",
        description="how batch_tokens counts: tokens (real ones) or padded (sentences × the "
        "longest side, fairseq's)",
    )
    accumulate: Positive = Field(1, description="micro-batches of one step, on each rank")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the matrix products; auto = the fastest safe one of the device"
    )
    seed: Count = Field(1, description="of weights, dropout and the order of the data")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: Count = Field(0, description="CPU threads; 0 = as many as there are cores")
    clip_norm: Annotated[float, Field(ge=0)] = Field(
        0.0, description="longest gradient allowed; 0 = no limit"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute layers twice, to hold less memory"
    )
    ema: Fraction = Field(
        0.0, description="decay of a moving average of the weights, kept beside them; 0 = none"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="each layer down learns this much slower (fine-tuning); 1 = no slower"
    )
    patience: Count = Field(
        0, description="stop after so many evaluations without a better score; 0 = never"
    )
    workers: Count = Field(
        0,
        description="micro-batches that are made ahead, by a thread, or of pictures by as many; "
        "changes no result",
    )
    optimizer: Optimizer = Field(default_factory=Optimizer, description="how a step is made")
    schedule: Schedule = Field(default_factory=Schedule, description="the learning rate")
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="when weights are kept")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.max_steps is None) == (self.max_epochs is None):
            raise ValueError("give exactly one of max_steps and max_epochs")
        _one_of(self, BATCHES)
        return self


class Evaluation(Section):
    """How a run is watched."""

    every_steps: Positive | None = Field(None, description="evaluate after so many steps")
    every_epochs: Positive | None = Field(
        None, description="evaluate after so many epochs; 1 if neither is given"
    )
    metric: str = Field(
        "loss", description="what says which checkpoint is best: loss, or the task's score (bleu)"
    )
    samples: Count = Field(3, description="examples shown beside each evaluation")

    @model_validator(mode="after")
    def _check(self) -> Self:
        _one_of(self, PERIODS)
        return self


class LengthPenalty(Section):
    """What stops a beam from loving short outputs."""

    kind: Literal["gnmt", "power"] = Field(
        "power", description="gnmt: ((5 + n) / 6)^alpha, the paper's; power: n^alpha"
    )
    alpha: Annotated[float, Field(ge=0)] = Field(1.0, description="its strength; 0 = none")


class Decoding(Section):
    """How outputs are searched, unless a command says otherwise."""

    strategy: Literal["beam", "greedy", "sample"] = Field("beam", description="how tokens are won")
    beam: Positive = Field(5, description="hypotheses kept open for each input")
    nbest: Positive = Field(1, description="outputs given for each input")
    length_penalty: LengthPenalty = Field(
        default_factory=LengthPenalty, description="what divides a hypothesis' score"
    )
    stop: Literal["first", "all", "bound", "present"] = Field(
        "first",
        description="a beam ends when beam hypotheses are finished (first), at the length limit "
        "(all), when no open one can still win (bound), or none would at its present length "
        "(present, transformers' default)",
    )
    min_length: Count = Field(0, description="tokens that must stand before the end token")
    max_length: Positive | Annotated[str, Field(pattern=r"^input(\+\d+)?$")] = Field(
        "input+50",
        description="tokens of the longest output, its end included: a number, or "
        '"input+50" (the paper\'s)',
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="sample: below 1 more cautious, above 1 wilder"
    )
    top_k: Count = Field(0, description="sample: only from the k likeliest; 0 = all")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="sample: only from the likeliest that together reach p"
    )
    min_p: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="sample: only tokens at least p times as likely as the likeliest"
    )
    repetition_penalty: Annotated[float, Field(gt=0)] = Field(
        1.0, description="above 1: tokens already written become less likely"
    )
    seed: Count = Field(1, description="of the random draws")
    precision: Literal["auto", "float32", "bfloat16", "int8"] = Field(
        "auto", description="of the weights while decoding; auto = float32; int8 on CPUs"
    )


class RecipeModel(Section):
    """A whole recipe, as far as every task shares it."""

    task: str = Field(description="what the model is for, e.g. translation")
    data: Data = Field(default_factory=Data, description="files")
    tokenizer: Tokenizer = Field(default_factory=Tokenizer, description="text to tokens")
    model: dict[str, Any] = Field(
        default_factory=dict,
        description="family, preset or start_from, and the family's own settings",
    )
    objective: Objective = Field(default_factory=Objective, description="the loss")
    augmentation: Augmentation | None = Field(None, description="changes made to pictures")
    mixture: list[Mixed] | None = Field(
        None,
        description="text-to-text: several tasks in one run, in place of data.train, valid and "
        "test: tables of train, valid, test, prefix, rate, name, metrics",
    )
    training: Training = Field(description="the run")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="how it is watched")
    decoding: Decoding = Field(default_factory=Decoding, description="how outputs are searched")


def _one_of(section: Section, forms: Forms) -> None:
    """No two of the forms are given (a key at its default is not given)."""
    defaults = {name: info.default for name, info in type(section).model_fields.items()}
    given = [
        " and ".join(form)
        for form in forms
        if any(getattr(section, key) != defaults[key] for key in form)
    ]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} exclude each other: give one of them")
