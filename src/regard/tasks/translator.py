"""The door by which users translate: texts in, texts out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack, cast, overload

import torch
from torch import nn

from regard import decoding
from regard.data import Tokenizer
from regard.decoding import DecodingSpec, search_many
from regard.errors import InputError
from regard.tasks.generation import DecodingOptions, Hypothesis, as_text, with_options

BATCH_TOKENS = 4096


def as_texts(given: Any) -> list[str]:
    """One text or many, as a list.

    Raises:
        InputError: naming what is no text.
    """
    many = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    for one in many:
        if not isinstance(one, str):
            raise InputError(f"a text is wanted, or a list of texts, not {one!r}")
    return many


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

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Translator: {type(self.model).__name__}, {parameters:,} parameters>"

    @overload
    def translate(
        self,
        texts: str,
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = BATCH_TOKENS,
        **options: Unpack[DecodingOptions],
    ) -> str: ...

    @overload
    def translate(
        self,
        texts: list[str] | tuple[str, ...],
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = BATCH_TOKENS,
        **options: Unpack[DecodingOptions],
    ) -> list[str]: ...

    def translate(
        self,
        texts: str | list[str] | tuple[str, ...],
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = BATCH_TOKENS,
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
        found = self.ranked(as_texts(texts), prefix=prefix, batch_tokens=batch_tokens, **options)
        results: list[Any] = found
        if with_options(self.decoding, options).nbest == 1:
            results = [row[0].text for row in found]
        return results[0] if isinstance(texts, str) else results

    def ranked(
        self,
        texts: Sequence[str],
        *,
        prefix: str | Sequence[str] | None = None,
        batch_tokens: int = BATCH_TOKENS,
        origins: Sequence[str] | None = None,
        **options: Unpack[DecodingOptions],
    ) -> list[list[Hypothesis]]:
        """The ``nbest`` outputs of each text, best first.

        Args:
            texts, prefix, batch_tokens, **options: as `translate`'s.
            origins: what errors call the texts, e.g. ``news.en:7``.
        """
        spec = with_options(self.decoding, options)
        rows = self._read(as_texts(texts))
        longest = self._check_lengths(rows, origins)
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
            results[number] = [self._written(one) for one in hypotheses]
        return results

    predict = translate

    def look_inputs(
        self, text: str, target: str | None = None, *, prefix: str | None = None
    ) -> dict[str, Any]:
        """One pair as the model reads it, for `regard.look.look`.

        Args:
            text: the source.
            target: the right translation; None = the model's own.
            prefix: what its own must begin with.

        Returns:
            ``inputs`` of the model [1, …], ``tokens`` by stack, ``labels`` [1, T], ``predicts``
            (their tokens) and ``target`` (the translation).

        Raises:
            InputError: for an empty text, or one longer than the model allows.
        """
        answer = str(self.translate(text, nbest=1, prefix=prefix)) if target is None else target
        (source,), words = self._read([text]), self.tokenizer.encode(answer)
        if not source:
            raise InputError("there is nothing to look at in an empty text")
        if target is None:  # an answer that never ends leaves no place for the start token
            words = words[: int(cast(Any, self.model).config.max_positions) - 1]
        self._check_lengths([source, words], ["the text", "its target"])
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

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts, as the model reads them but for the end."""
        return self.source_tokenizer.encode_batch(texts)

    def _written(self, found: decoding.Hypothesis) -> Hypothesis:
        """What the model wrote, as text."""
        return as_text(found, self.tokenizer)

    def _prefixes(self, prefix: str | Sequence[str] | None, count: int) -> list[list[int]] | None:
        if prefix is None:
            return None
        texts = [prefix] * count if isinstance(prefix, str) else list(prefix)
        if len(texts) != count:
            raise InputError(f"{len(texts)} prefixes were given for {count} texts")
        return self.tokenizer.encode_batch(texts)

    def _check_lengths(
        self, rows: Sequence[Sequence[int]], origins: Sequence[str] | None = None
    ) -> int:
        longest = int(cast(Any, self.model).config.max_positions)
        for number, row in enumerate(rows):
            if len(row) + 1 > longest:
                raise InputError(
                    f"the text has {len(row):,} tokens, the model reads at most {longest - 1:,}",
                    where=origins[number] if origins else f"text {number + 1}",
                    hint="split it into sentences",
                )
        return longest
