"""Translation: sentence pairs in, a model that turns one into the other.

Data are pairs of lines (or of fields of a table). Source and target share one tokenizer unless
``tokenizer.joint = false``. The score is BLEU over the decoded validation text: sacreBLEU's 13a
tokens of raw text, or, where the text came already segmented (``tokenizer.kind = "words"``), its
own words; the signature says which.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Unpack, cast, overload

import torch
from torch import nn

from regard import corpora, registry
from regard.data import (
    BatchSettings,
    BatchSource,
    Pairs,
    ParallelText,
    PreparedData,
    PrepareSettings,
    Source,
    Tokenizer,
    load_tokenizer,
    open_source,
    prepare,
    train_tokenizer,
)
from regard.decoding import DecodingSpec, search_many
from regard.errors import InputError, RunError
from regard.metrics import bleu, chrf, exact_match
from regard.recipe import Recipe, as_settings
from regard.tasks.generation import DecodingOptions, Hypothesis, as_text, with_options
from regard.tasks.task import Evaluation, Report, Sample, Splits

COLUMNS = ("source", "target")
TOKENIZER, SOURCE_TOKENIZER = "tokenizer.json", "tokenizer.source.json"
DEFAULT_BATCH_TOKENS = 4096


class Translation:
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "translation"
    family: ClassVar[str] = "transformer"
    data_keys: ClassVar[tuple[str, ...]] = ()

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.directory = Path()
        self.tokenizers: dict[str, Tokenizer] = {}

    # Data

    def prepare(self, run: Path, report: Report) -> Splits:
        """Learn or read the tokenizers, prepare the pairs, give the batches."""
        self.directory = run
        train = self._text("train")
        valid = None if self.recipe.data.valid is None else self._text("valid")
        if not self._read_tokenizers(run):
            report("learning the tokenizer")
            self._learn_tokenizers(train, run)
        longest = int(self.recipe.model_config_for(self.model_settings()).max_positions) - 1
        limit = min(self.recipe.data.max_length, longest)
        report("preparing the data")
        held = self._prepared(train, PrepareSettings(limit, "drop"))
        notes = [f"{len(held):,} pairs to train on"]
        notes += [f"left out: {count:,} {reason}" for reason, count in held.dropped.items()]
        splits: BatchSource | None = None
        if valid is not None:
            kept = self._prepared(valid, PrepareSettings(longest, "error"))
            notes.append(f"{len(kept):,} pairs to validate with")
            splits = self._valid_batches(kept)
        return Splits(self._train_batches(held), splits, tuple(notes))

    def open(self, run: Path) -> None:
        """Read the run's tokenizers."""
        self.directory = run
        if not self._read_tokenizers(run):
            raise RunError("the run has no tokenizer", where=str(run / TOKENIZER))

    def model_settings(self) -> dict[str, Any]:
        """Sizes of the vocabularies."""
        sizes = {"vocab_size": self.tokenizers["source"].vocab_size}
        if not self.recipe.tokenizer.joint:
            sizes["target_vocab_size"] = self.tokenizers["target"].vocab_size
        return sizes

    def objective(self) -> Any:
        """Cross-entropy with the recipe's label smoothing, unless it names another."""
        settings = self.recipe.objective
        kind = registry.kind("objectives", settings.kind)
        return kind(label_smoothing=settings.label_smoothing, **settings.own)

    def _text(self, split: str) -> Source:
        described = self.recipe.data_of(split)
        if described.corpus is not None:
            files = corpora.write(described.corpus, self._cache / described.corpus)
            return ParallelText({side: files[f"{split}.{side}"] for side in COLUMNS})
        return open_source(described.model_dump(exclude_none=True), columns=COLUMNS)

    @property
    def _cache(self) -> Path:
        return Path(self.recipe.data.cache or self.directory / "data")

    def _read_tokenizers(self, run: Path) -> bool:
        """Those of the run, or of the run whose weights this one starts from."""
        start = self.recipe.model.get("start_from")
        if not (run / TOKENIZER).exists() and start is not None:
            for name in (TOKENIZER, SOURCE_TOKENIZER):
                if (Path(start) / name).exists():
                    shutil.copyfile(Path(start) / name, run / name)
        if not (run / TOKENIZER).exists():
            return False
        target = load_tokenizer(run / TOKENIZER)
        apart = run / SOURCE_TOKENIZER
        source = load_tokenizer(apart) if apart.exists() else target
        self.tokenizers = {"source": source, "target": target}
        return True

    def _learn_tokenizers(self, text: Source, run: Path) -> None:
        settings = self.recipe.tokenizer

        def learn(columns: Sequence[str]) -> Tokenizer:
            return train_tokenizer(
                settings.kind,
                _texts(text, columns),
                vocab_size=settings.vocab_size,
                lowercase=settings.lowercase,
                continuation=settings.continuation or None,
            )

        if settings.joint:
            joint = learn(COLUMNS)
            self.tokenizers = {"source": joint, "target": joint}
        else:
            self.tokenizers = {column: learn([column]) for column in COLUMNS}
            self.tokenizers["source"].save(run / SOURCE_TOKENIZER)
        self.tokenizers["target"].save(run / TOKENIZER)

    def _prepared(self, text: Source, settings: PrepareSettings) -> PreparedData:
        return prepare(text, self.tokenizers, cache=self._cache, settings=settings)

    def _train_batches(self, data: PreparedData) -> BatchSource:
        training = self.recipe.training
        if training.batch_size is not None:
            settings = BatchSettings(training.batch_size, "sentences", seed=training.seed)
        else:
            budget = training.batch_tokens or DEFAULT_BATCH_TOKENS
            settings = BatchSettings(budget, training.batch_measure, seed=training.seed)
        return BatchSource(data, Pairs(), settings)

    def _valid_batches(self, data: PreparedData) -> BatchSource:
        longest = max(int(data.lengths(column).max()) for column in COLUMNS) + 1
        budget = max(self.recipe.training.batch_tokens or DEFAULT_BATCH_TOKENS, longest)
        return BatchSource(data, Pairs(), BatchSettings(budget, "padded", shuffle=False))

    # Use

    def predictor(self, model: nn.Module) -> Translator:
        """The door by which users translate."""
        spec = as_settings(self.recipe.decoding, DecodingSpec, where="decoding")
        return Translator(model, self.tokenizers, spec)

    def evaluate(
        self,
        model: nn.Module,
        data: Mapping[str, Any] | None = None,
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """Translate and score the recipe's validation data, or ``data`` in its words."""
        sources, references = self.read_pairs(data)
        outputs = self.predictor(model).translate(sources)
        return self.score(sources, references, outputs, samples=samples, resamples=resamples)

    def score(
        self,
        sources: Sequence[str],
        references: Sequence[str],
        outputs: Sequence[str],
        *,
        samples: int = 0,
        resamples: int = 0,
    ) -> Evaluation:
        """BLEU, chrF and exact match; 95 % intervals from ``resamples`` where above 0."""
        lowercase = self.recipe.tokenizer.lowercase
        scores = {
            "bleu": bleu(
                outputs,
                references,
                tokenize=self.bleu_tokens,
                lowercase=lowercase,
                samples=resamples,
            ),
            "chrf": chrf(outputs, references, lowercase=lowercase, samples=resamples),
            "exact_match": exact_match(outputs, references),
        }
        shown = [Sample(*row) for row in zip(sources, references, outputs, strict=True)]
        return Evaluation(scores, shown[:samples])

    def check_tokenizer(self, count: int) -> str:
        """Whether texts come back from the tokenizers as they went in; says how many do."""
        pairs = list(itertools.islice(self._text("train"), count))
        same = 0
        for column, place in zip(COLUMNS, range(2), strict=True):
            tokenizer = self.tokenizers[column]
            texts = [" ".join(self._joined(pair.fields[place]).split()) for pair in pairs]
            if tokenizer.lowercase:
                texts = [text.lower() for text in texts]
            ids = tokenizer.encode_batch([pair.fields[place] for pair in pairs])
            same += sum(tokenizer.decode(r) == t for r, t in zip(ids, texts, strict=True))
        sizes = " and ".join(f"{size:,}" for size in self.model_settings().values())
        return f"{sizes} entries; {same} of {2 * len(pairs)} texts come back as they went in"

    def show(self, model: nn.Module, count: int) -> list[Sample]:
        """The first few validation pairs with what the model makes of them, greedily."""
        if not count or self.recipe.data.valid is None:
            return []
        pairs = [example.fields for example in itertools.islice(self._text("valid"), count)]
        outputs = self.predictor(model).translate([pair[0] for pair in pairs], strategy="greedy")
        return [
            Sample(pair[0], self._joined(pair[1]), output)
            for pair, output in zip(pairs, outputs, strict=True)
        ]

    @property
    def bleu_tokens(self) -> str:
        """sacreBLEU's tokenizer: none where the text came segmented."""
        return "none" if self.recipe.tokenizer.kind == "words" else "13a"

    def read_pairs(
        self, data: Mapping[str, Any] | None = None, *, split: str = "valid"
    ) -> tuple[list[str], list[str]]:
        """Sources, and references as a reader has them, of a split or of ``data``."""
        text = self._text(split) if data is None else open_source(data, columns=COLUMNS)
        pairs = [example.fields for example in text]
        return [pair[0] for pair in pairs], [self._joined(pair[1]) for pair in pairs]

    def _joined(self, reference: str) -> str:
        """A segmented reference as words, as outputs are."""
        mark = self.recipe.tokenizer.continuation
        return reference.replace(f"{mark} ", "") if mark else reference


class Translator:
    """Translates text.

    Attributes:
        model: the trained module, called as ``model(source_ids, target_ids)``.
        tokenizer: of the target; `source_tokenizer` is another one where they are apart.
        decoding: how outputs are searched unless a call says otherwise.
    """

    def __init__(
        self, model: nn.Module, tokenizers: Mapping[str, Tokenizer], decoding: DecodingSpec
    ) -> None:
        self.model = model
        self.tokenizer = tokenizers["target"]
        self.source_tokenizer = tokenizers["source"]
        self.decoding = decoding

    @overload
    def translate(
        self,
        texts: str,
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        **options: Unpack[DecodingOptions],
    ) -> str: ...

    @overload
    def translate(
        self,
        texts: list[str] | tuple[str, ...],
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        **options: Unpack[DecodingOptions],
    ) -> list[str]: ...

    def translate(
        self,
        texts: str | list[str] | tuple[str, ...],
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        **options: Unpack[DecodingOptions],
    ) -> Any:
        """Translate one text or many.

        Args:
            texts: one text, or a list; an empty text gives an empty one.
            prefix: what each output must begin with; a list has one for each text.
            batch_tokens: most source tokens at once, hypotheses counted; changes no result.
            **options: of decoding, e.g. ``beam=5``, ``nbest=3``, ``max_length=80``.

        Returns:
            A text for a text, a list for a list; with ``nbest`` above 1 a list of `Hypothesis`
            in place of each text, best first.

        Raises:
            InputError: a text is longer than the model allows; it names which.
        """
        many = [texts] if isinstance(texts, str) else list(texts)
        found = self.ranked(many, prefix=prefix, batch_tokens=batch_tokens, **options)
        results: list[Any] = [row if len(row) > 1 else row[0].text for row in found]
        return results[0] if isinstance(texts, str) else results

    def ranked(
        self,
        texts: Sequence[str],
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = DEFAULT_BATCH_TOKENS,
        **options: Unpack[DecodingOptions],
    ) -> list[list[Hypothesis]]:
        """The ``nbest`` outputs of each text, best first; arguments as `translate`'s."""
        spec = with_options(self.decoding, options)
        rows = self.source_tokenizer.encode_batch(list(texts))
        longest = self._check_lengths(rows)
        filled = [number for number, row in enumerate(rows) if row]
        prefixes = self._prefixes(prefix, len(rows))
        end, target = self.source_tokenizer.end_id, self.tokenizer
        found = search_many(
            cast(Any, self.model),
            [[*rows[number], end] for number in filled],
            spec,
            start_id=target.start_id,
            end_id=target.end_id,
            pad_id=target.pad_id,
            batch_tokens=batch_tokens,
            prefix=None if prefixes is None else [prefixes[number] for number in filled],
            max_positions=longest,
        )
        results = [[Hypothesis("", 0.0, ())] * spec.nbest for _ in rows]
        for number, hypotheses in zip(filled, found, strict=True):
            results[number] = [as_text(one, target) for one in hypotheses]
        return results

    def look_inputs(self, text: str, target: str | None = None) -> dict[str, Any]:
        """One pair as the model reads it, for `regard.look.look`.

        Args:
            text: the source.
            target: the right translation; None = the model's own.

        Returns:
            ``inputs`` of the model [1, …], ``tokens`` by stack, ``labels`` [1, T], ``predicts``
            (their tokens) and ``target`` (the translation).

        Raises:
            InputError: for an empty text, or one longer than the model allows.
        """
        answer = str(self.translate(text, nbest=1)) if target is None else target
        source, words = self.source_tokenizer.encode(text), self.tokenizer.encode(answer)
        if not source:
            raise InputError("there is nothing to look at in an empty text")
        self._check_lengths([source, words])
        read = [*source, self.source_tokenizer.end_id]
        written, labels = [self.tokenizer.start_id, *words], [*words, self.tokenizer.end_id]
        device = next(self.model.parameters()).device

        def tensor(ids: list[int]) -> torch.Tensor:
            return torch.tensor([ids], device=device)

        return {
            "inputs": {"source_ids": tensor(read), "target_ids": tensor(written)},
            "tokens": {
                "encoder": self.source_tokenizer.tokens(read),
                "decoder": self.tokenizer.tokens(written),
            },
            "labels": tensor(labels),
            "predicts": self.tokenizer.tokens(labels),
            "target": answer,
        }

    def _prefixes(self, prefix: str | Sequence[str] | None, count: int) -> list[list[int]] | None:
        if prefix is None:
            return None
        texts = [prefix] * count if isinstance(prefix, str) else list(prefix)
        if len(texts) != count:
            raise InputError(f"{len(texts)} prefixes were given for {count} texts")
        return self.tokenizer.encode_batch(texts)

    def _check_lengths(self, rows: Sequence[Sequence[int]]) -> int:
        longest = int(cast(Any, self.model).config.max_positions)
        for number, row in enumerate(rows, start=1):
            if len(row) + 1 > longest:
                raise InputError(
                    f"the text has {len(row)} tokens, the model reads at most {longest - 1}",
                    where=f"text {number}",
                    hint="split it into sentences",
                )
        return longest


def _texts(text: Source, columns: Sequence[str]) -> Iterator[str]:
    places = [text.columns.index(column) for column in columns]
    for example in text:
        yield from (example.fields[place] for place in places)


TASK = Translation
