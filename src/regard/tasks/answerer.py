"""The door by which users ask: a question and a text in, the answer's place in it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from regard.data import PreparedData
from regard.data.windows import Offsets
from regard.errors import InputError
from regard.objectives.span import span_logits

if TYPE_CHECKING:
    from regard.tasks.question_answering import QuestionAnswering

LONGEST_ANSWER = 30
"""Pieces of an answer at most (the reference code's)."""


@dataclass(frozen=True)
class Answer:
    """The part of a text that answers a question.

    Attributes:
        text: that part; empty where the text does not answer.
        start, end: its characters.
        score: log-probability of its first and last piece in their window, less that of no answer.
    """

    text: str
    start: int
    end: int
    score: float

    def __str__(self) -> str:
        return self.text


NONE = Answer("", 0, 0, float("-inf"))


class Answerer:
    """Finds answers in texts.

    Attributes:
        model: the trained module, called as ``model(ids, mask=, segments=)``.
        tokenizer: of its text.
    """

    def __init__(self, model: nn.Module, task: QuestionAnswering) -> None:
        self.model = model
        self.tokenizer = task.tokenizer
        self._task = task

    def __repr__(self) -> str:
        parameters = sum(p.numel() for p in self.model.parameters())
        return f"<Answerer: {type(self.model).__name__}, {parameters:,} parameters>"

    def answer(self, questions: Any, context: str | None = None) -> Any:
        """Answer one question or many.

        Args:
            questions: a question or several, with ``context``; or a pair of question and text, a
                tuple, or a list of such pairs.
            context: the text that a single question, or each of several, is about.

        Returns:
            `Answer`; a list for a list.

        Raises:
            InputError: for a question without a text, or empty ones.
        """
        one = isinstance(questions, str | tuple)
        pairs = [_pair(asked, context) for asked in ([questions] if one else questions)]
        found = self._best(pairs)
        return found[0] if one else found

    predict = answer

    def look_inputs(self, pair: Any, target: str | None = None) -> dict[str, Any]:
        """A question and a text as the model reads them, for `regard.look.look`.

        Args:
            pair: question and text.
            target: the answer whose loss is watched; None = the model's own.

        Raises:
            InputError: the text does not hold the target, or is too long for one window.
        """
        question, context = _pair(pair, None)
        if target is None:
            found = self.answer((question, context))
            answer, start = found.text, found.start
        else:
            answer, start = target, context.find(target)
        if start < 0:
            raise InputError(f"{answer!r} does not stand in the text")
        columns = self._columns([(question, context)])
        columns["answer"] = [[start, start + len(answer)] if answer else []]
        windows = self._task.windows(answered=True)
        data = PreparedData.in_memory(columns)
        if len(windows.placed(data).examples) > 1:
            raise InputError("the text is longer than the model reads at once")
        batch = windows(data, windows.placed(data).examples)
        device = next(self.model.parameters()).device
        names = ("ids", "mask", "segments")
        return {
            "inputs": {name: batch[name].to(device) for name in names if name in batch},
            "tokens": {"encoder": self.tokenizer.tokens(batch["ids"][0].tolist())},
            "labels": batch["labels"].to(device),
            "logits": lambda outputs: outputs.transpose(1, 2),  # [1, 2, T]: a place each
            "target": answer,
        }

    def _columns(self, pairs: Sequence[tuple[str, str]]) -> dict[str, list[list[int]]]:
        questions, contexts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        return {
            "question": self.tokenizer.encode_batch(questions),
            "context": self.tokenizer.encode_batch(contexts),
            "offsets": Offsets(self.tokenizer).encode_batch(contexts),
        }

    def _best(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """The best span over all windows of each pair, or none where that scores higher."""
        if not pairs:
            return []
        task, columns = self._task, self._columns(pairs)
        windows = task.windows(answered=False)
        best = [NONE] * len(pairs)
        nothing = [float("inf")] * len(pairs)
        names = ("example", "first", "begin", "size")
        for batch, logits in task.answers(self.model, columns, windows):
            scores = span_logits(logits, batch["mask"]).log_softmax(dim=-1).cpu()  # [B, 2, T]
            rows = zip(*(batch[name].tolist() for name in names), strict=True)
            for row, (number, first, begin, size) in zip(scores, rows, strict=True):
                if not size:  # a text without a piece, such as a control character
                    continue
                none = float(row[0, 0] + row[1, 0])
                nothing[number] = min(nothing[number], none)
                places = torch.tensor(columns["offsets"][number]).view(-1, 2)[begin : begin + size]
                blank = places[:, 0] >= places[:, 1]  # white space neither begins nor ends answers
                inside = row[:, first : first + size].masked_fill(blank, float("-inf"))
                score, start, end = best_span(inside)
                if score > best[number].score:
                    left, right = int(places[start, 0]), int(places[end, 1])
                    best[number] = Answer(pairs[number][1][left:right], left, right, score)
        return [self._decided(found, none) for found, none in zip(best, nothing, strict=True)]

    def _decided(self, found: Answer, none: float) -> Answer:
        if found is NONE:
            return Answer("", 0, 0, 0.0)
        margin = found.score - none
        if self._task.may_refuse and margin < 0:
            return Answer("", 0, 0, margin)
        return Answer(found.text, found.start, found.end, margin)


def best_span(scores: Tensor) -> tuple[float, int, int]:
    """Score, first and last piece of the best span.

    Args:
        scores: of beginnings and ends [2, T].
    """
    sums = scores[0][:, None] + scores[1][None, :]  # [T, T]
    allowed = torch.ones_like(sums, dtype=torch.bool).triu().tril(LONGEST_ANSWER - 1)
    place = int(sums.masked_fill(~allowed, float("-inf")).argmax())
    start, end = divmod(place, sums.shape[1])
    return float(sums[start, end]), start, end


def _pair(asked: Any, context: str | None) -> tuple[str, str]:
    alone = isinstance(asked, str) or context is not None
    pair = (asked, context) if alone else tuple(asked)
    if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise InputError(
            f"a question and the text that it is about are wanted, not {asked!r}",
            hint="p.answer(question, context=text)",
        )
    for part, name in zip(pair, ("question", "text"), strict=True):
        if not str(part).strip():
            raise InputError(f"the {name} is empty")
    return str(pair[0]), str(pair[1])
