"""Question answering: a question and a text in, the part of the text that answers it out.

Data are SQuAD's JSON, or a table with the columns question, context and answer. A text longer than
the model reads is read in windows that overlap (``data.stride``). Where the training data have
questions without an answer, the model may say that there is none. (Devlin et al., 2019, sections
4.2 and 4.3.)
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import nn

from regard.data import Example, PreparedData, Source
from regard.data.codecs import Codec
from regard.data.readers.squad import ANSWERS, CONTEXT, QUESTION, QuestionTable, Squad
from regard.data.readers.tables import is_table
from regard.data.windows import AnswerPlace, Offsets, Windows
from regard.errors import RecipeError, RunError
from regard.files import write_json
from regard.metrics import Comparison, Score
from regard.metrics.squad import compare_answers, score_answers
from regard.recipe import Recipe
from regard.tasks.answerer import LONGEST_ANSWER, Answerer
from regard.tasks.encoding import EncoderTask
from regard.tasks.task import Evaluation, Examples, Sample

ANSWERING = "answering.json"
STRIDE = 128


class QuestionAnswering(EncoderTask):
    """The task under one recipe; see `regard.tasks.task.Task`."""

    name: ClassVar[str] = "question-answering"
    verb: ClassVar[str] = "answer"
    batches: ClassVar[str] = "answers"
    metrics: ClassVar[tuple[str, ...]] = ("exact_match", "f1")
    uses: ClassVar[tuple[str, ...]] = ("data.stride",)
    stand_in: ClassVar[Mapping[str, Any]] = {"vocab_size": 8, "head": "span"}

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.may_refuse = False

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Questions and the texts that they are about."""
        return (QUESTION, CONTEXT)

    def source(self, data: Mapping[str, Any]) -> Source:
        """SQuAD's JSON, or a table."""
        return questions_of(data)

    def learn(self, train: Source) -> None:
        """Whether there are questions that the texts do not answer."""
        path = self.directory / ANSWERING
        if not path.exists():
            without = any(json.loads(one.fields[2]) == [] for one in train)
            write_json(path, {"no_answer": without})
        self.recall()

    def recall(self) -> None:
        """Read it from the run."""
        path = self.directory / ANSWERING
        if not path.exists():  # an imported model does not say it
            return
        try:
            self.may_refuse = bool(json.loads(path.read_text(encoding="utf-8"))["no_answer"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError("this file is damaged", where=str(path)) from error

    def codecs(self) -> dict[str, Codec]:
        """Pieces, where in the text they stand, and the answer's place."""
        offsets = Offsets(self.tokenizer)
        texts = dict.fromkeys(self.text_columns, self.tokenizer)
        return {**texts, "offsets": offsets, "answer": AnswerPlace()}

    def fields(self) -> dict[str, str]:
        """Offsets are the context's."""
        return {"offsets": CONTEXT, "answer": ANSWERS}

    def collate(self) -> Windows:
        """Windows with the answer's place in them."""
        return self.windows(answered=True)

    def windows(self, *, answered: bool) -> Windows:
        """Windows as the recipe wants them."""
        stride = self.recipe.data.stride or STRIDE
        return Windows(self.frame, self.longest, stride, answered=answered)

    def notes(self, data: PreparedData) -> list[str]:
        """How many windows there are, and what is cut or cannot be answered."""
        windows = self.windows(answered=True)
        count = len(windows.placed(data).examples)
        lines = [*super().notes(data), f"{count:,} windows of at most {self.longest} tokens"]
        limit = windows.longest_question
        if cut := int((data.lengths(QUESTION) > limit).sum()):
            lines.append(f"{cut:,} questions are longer than {limit} tokens: cut")
        spans = windows.spans(data, np.arange(len(data)))
        if long := int((spans[:, 1] - spans[:, 0] >= LONGEST_ANSWER).sum()):
            lines.append(f"{long:,} answers are longer than {LONGEST_ANSWER} tokens: never given")
        return lines

    def model_settings(self) -> dict[str, Any]:
        """The size of the vocabulary, and the head."""
        return {**super().model_settings(), "head": "span"}

    # Use

    def predictor(self, model: nn.Module) -> Answerer:
        """The door by which users ask."""
        return Answerer(model, self)

    def examples(self, source: Iterable[Example]) -> Examples:
        """Pairs of question and text, and every right answer."""
        rows = list(source)
        asked = [one.fields[:2] for one in rows]
        answers = [[text for _, text in json.loads(one.fields[2])] for one in rows]
        return Examples(asked, answers, [one.origin for one in rows])

    def predict(self, model: nn.Module, examples: Examples) -> list[str]:
        """The answer to each question; empty where there is none."""
        return [found.text for found in self.predictor(model).answer(list(examples.sources))]

    def _samples(self, examples: Examples, answered: Sequence[Any], count: int) -> list[Sample]:
        """Questions alone: their texts are long."""
        rows = zip(examples.sources, examples.references, answered, strict=True)
        few = itertools.islice(rows, count)
        return [Sample(asked, " | ".join(right), made) for (asked, _), right, made in few]

    def score(
        self, examples: Examples, answered: Sequence[Any], resamples: int
    ) -> dict[str, Score]:
        """Exact match and F1."""
        return score_answers(examples.references, answered, resamples)

    def compare(
        self, examples: Examples, ours: Evaluation, theirs: Evaluation
    ) -> Sequence[Comparison]:
        """By paired bootstrap resampling of the questions."""
        return compare_answers(examples.references, ours.outputs, theirs.outputs)


def questions_of(data: Mapping[str, Any]) -> Source:
    """What reads data in the recipe's words: SQuAD's JSON, or a table.

    Raises:
        RecipeError: no file is given, or fields of one that is no table.
        DataError: the file is missing.
    """
    if "file" not in data:
        raise RecipeError(
            "question answering reads SQuAD's JSON or a table",
            where="data",
            hint="give data.train.file",
        )
    if is_table(data["file"]):
        return QuestionTable(data)
    if "fields" in data:
        raise RecipeError(
            "fields name the columns of a table, this is no table",
            where=str(data["file"]),
            hint="SQuAD's JSON needs none; the names of tables end in .jsonl, .tsv, .csv "
            "or .parquet",
        )
    return Squad(data["file"])


TASK = QuestionAnswering
