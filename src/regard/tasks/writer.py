"""The door by which users have text made of text: sources in, what the model writes out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Unpack

from torch import nn

from regard import decoding
from regard.data import Tokenizer
from regard.data.corruption import gap, gap_ids
from regard.decoding import DecodingSpec
from regard.errors import InputError
from regard.tasks.generation import DecodingOptions, Hypothesis
from regard.tasks.translator import BATCH_TOKENS, Translator, as_texts

_GAP = re.compile(r"\s*(<extra_id_\d+>)")


class Writer(Translator):
    """Writes text from text.

    A source may have sentinels where text is missing, ``<extra_id_0>``, and what is written may.

    Attributes:
        prefix: what stands before every source, unless a call says otherwise.
        prefixes: that say the tasks, where the model was trained on several.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        spec: DecodingSpec,
        prefix: str = "",
        prefixes: Sequence[str] = (),
    ) -> None:
        super().__init__(model, {"source": tokenizer, "target": tokenizer}, spec)
        self.prefix, self.prefixes = prefix, tuple(prefixes)
        self._gaps = {number: gap(n) for n, number in enumerate(gap_ids(tokenizer))}

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
            texts: the sources.
            prefix: what stands before them and says the task, the same for all or one for each.
            batch_tokens, origins, **options: as `Translator.ranked`'s.
        """
        texts = as_texts(texts)
        given = self.prefix if prefix is None else prefix
        before = [given] * len(texts) if isinstance(given, str) else list(given)
        if len(before) != len(texts):
            raise InputError(f"{len(before)} prefixes were given for {len(texts)} texts")
        pairs = zip(before, texts, strict=True)
        whole = [first + text if text.strip() else "" for first, text in pairs]
        return super().ranked(whole, batch_tokens=batch_tokens, origins=origins, **options)

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        max_new_tokens: int | None = None,
        **named: Any,
    ) -> Any:
        """As `translate`, with the name that the limit of a text has elsewhere."""
        if max_new_tokens is not None:
            named["max_length"] = max_new_tokens
        texts: Any = prompt
        return self.translate(texts, **named)

    summarize = predict = Translator.translate

    def look_inputs(
        self, text: str, target: str | None = None, *, prefix: str | None = None
    ) -> dict[str, Any]:
        """One pair as the model reads it, its prefix first; see `Translator.look_inputs`."""
        answer = str(self.translate(text, nbest=1, prefix=prefix)) if target is None else target
        before = self.prefix if prefix is None else prefix
        return super().look_inputs(before + text, answer)

    def _read(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids, with sentinels where a text has them; white space before one belongs to the gap."""
        tokenizer = self.source_tokenizer
        if not tokenizer.extra:  # it has none, or is an imported one, which reads them itself
            return super()._read(texts)
        known = {name: number for number, name in self._gaps.items()}
        rows = []
        for text in texts:
            parts = [part for part in _GAP.split(text) if part]
            plain = iter(tokenizer.encode_batch([part for part in parts if part not in known]))
            rows.append([i for p in parts for i in ([known[p]] if p in known else next(plain))])
        return rows

    def _written(self, found: decoding.Hypothesis) -> Hypothesis:
        """Text, sentinels included."""
        pieces = self.tokenizer.tokens(found.tokens)
        return Hypothesis(self._decoded(found.tokens), found.score, pieces)

    def _decoded(self, ids: Iterable[int]) -> str:
        if not self.tokenizer.extra:
            return self.tokenizer.decode(ids)
        parts, held = list[str](), list[int]()
        for number in (*ids, None):
            if number is not None and number not in self._gaps:
                held.append(number)
                continue
            parts.append(self.tokenizer.decode(held).strip())
            parts.append("" if number is None else self._gaps[number])
            held = []
        return " ".join(part for part in parts if part)
