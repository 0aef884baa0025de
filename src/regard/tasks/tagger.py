"""The door by which users tag: text or words in, tags and spans out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from regard.data.codecs import LIST, Words
from regard.data.framed import IGNORED
from regard.errors import InputError
from regard.metrics.spans import OUTSIDE, spans_of

if TYPE_CHECKING:
    from regard.tasks.tagging import Tagging

_WORDS = re.compile(r"[@#]?\w+(?:[-'’.]\w+)*|[^\w\s]")
"""Words as corpora of tagged text have them: punctuation stands apart."""


@dataclass(frozen=True)
class Span:
    """Words that belong together.

    Attributes:
        label: of the span, e.g. ``person``.
        text: its words; of a text the very part of it.
        start, end: its first word, and the first after it; of a text its characters.
    """

    label: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Tagged:
    """The tags of a text.

    Attributes:
        words: as they were tagged.
        tags: one a word.
        spans: what tags of the form B-x, I-x spell.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    spans: tuple[Span, ...]

    def __str__(self) -> str:
        rows = zip(self.words, self.tags, strict=True)
        return " ".join(word if tag == OUTSIDE else f"{word}/{tag}" for word, tag in rows)


class Tagger:
    """Tags words.

    Attributes:
        model: the trained module, called as ``model(ids, mask=)``.
        tokenizer: of its text.
        labels: the tags.
    """

    def __init__(self, model: nn.Module, task: Tagging) -> None:
        self.model = model
        self.tokenizer = task.tokenizer
        self.labels = task.labels
        self._task = task

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Tagger: {type(self.model).__name__}, {parameters:,} parameters>"

    def tag(self, texts: str | Sequence[str] | Sequence[Sequence[str]]) -> Any:
        """Tag one text or many.

        Args:
            texts: a text, cut into words here; or a list of texts, or of lists of words.

        Returns:
            `Tagged`; a list for a list.

        Raises:
            InputError: for what is neither.
        """
        one = isinstance(texts, str)
        given = list(texts) if isinstance(texts, Iterable) and not one else [texts]
        read = [_words(text) for text in given]
        tags = self._task.tags(self.model, [words for words, _ in read])
        found = [
            _tagged(text, words, places, row)
            for text, (words, places), row in zip(given, read, tags, strict=True)
        ]
        return found[0] if one else found

    predict = tag

    def look_inputs(self, text: str, target: str | None = None) -> dict[str, Any]:
        """A text as the model reads it, for `regard.look.look`; its own tags are the target.

        Raises:
            InputError: it is no text or too long, or a target is given.
        """
        if target is not None:
            raise InputError("a picture of tagging takes no target: the model's own tags are it")
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"a text is wanted, not {text!r}")
        tagged = self.tag(text)
        task, device = self._task, next(self.model.parameters()).device
        (pieces,) = Words(task.tokenizer).pieces([LIST.join(tagged.words)])
        flat = [i for word in pieces for i in word]
        if len(flat) > task.longest - 2:
            raise InputError(
                f"the text has {len(flat):,} tokens, the model reads {task.longest - 2:,}",
                hint="look at a shorter one",
            )
        inputs = task.frame.batch([[torch.tensor(flat).numpy()]])
        labels = torch.full_like(inputs["ids"], IGNORED)
        place = 1
        for word, tag in zip(pieces, tagged.tags, strict=True):
            labels[0, place] = self.labels.index(tag)
            place += len(word)
        return {
            "inputs": {name: tensor.to(device) for name, tensor in inputs.items()},
            "tokens": {"encoder": task.tokenizer.tokens(inputs["ids"][0].tolist())},
            "labels": labels.to(device),
            "target": " ".join(tagged.tags),
        }


def _words(text: Any) -> tuple[list[str], list[tuple[int, int]] | None]:
    """Words of a text with their places in it, or words as they are."""
    if isinstance(text, str):
        found = list(_WORDS.finditer(text))
        return [match.group() for match in found], [match.span() for match in found]
    if not isinstance(text, Sequence) or not all(isinstance(word, str) for word in text):
        raise InputError(f"a text is wanted, or a list of words, not {text!r}")
    return [" ".join(word.split()) for word in text], None


def _tagged(
    text: Any, words: list[str], places: list[tuple[int, int]] | None, tags: list[str]
) -> Tagged:
    spans = []
    for label, first, last in spans_of(tags):
        if places is None:
            spans.append(Span(label, " ".join(words[first:last]), first, last))
        else:
            start, end = places[first][0], places[last - 1][1]
            spans.append(Span(label, text[start:end], start, end))
    return Tagged(tuple(words), tuple(tags), tuple(spans))
