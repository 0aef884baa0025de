"""Questions about texts: SQuAD's JSON, or a table with the columns question, context and answer.

Either way an example's fields are question, context, and its answers as JSON: a list of
``[place, text]``, the place in characters; an empty list where the text does not answer.
(Rajpurkar et al., 2016 and 2018.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regard.data.readers.lines import check_file, display_name, read_lines
from regard.data.readers.source import Example, open_source
from regard.data.readers.tables import text_of
from regard.errors import DataError

QUESTION, CONTEXT, ANSWERS = "question", "context", "answers"


class Squad:
    """The questions of a file in SQuAD's form; as its line counts the number of the question."""

    def __init__(self, path: str | Path) -> None:
        self.columns = (QUESTION, CONTEXT, ANSWERS)
        self.files = (check_file(path),)
        self.identity: Mapping[str, Any] = {"format": "squad"}

    def __iter__(self) -> Iterator[Example]:
        name = display_name(self.files[0])
        number = 0
        try:
            articles = json.loads("\n".join(read_lines(self.files[0])))["data"]
            for article in articles:
                for paragraph in article["paragraphs"]:
                    for question in paragraph["qas"]:
                        number += 1
                        where = f"{name}:{number}"
                        asked = text_of(question["question"], QUESTION, where)
                        context = text_of(paragraph["context"], CONTEXT, where)
                        answers = [] if question.get("is_impossible") else question["answers"]
                        found = [(int(one["answer_start"]), str(one["text"])) for one in answers]
                        yield _example(asked, context, found, name, number)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"this is not SQuAD's form, from question {number + 1} on: {error!r}",
                where=name,
                hint="data → paragraphs → context, qas → question, answers → text, answer_start",
            ) from error
        if not number:
            raise DataError("there is no question in it", where=name)


class QuestionTable:
    """A table with the columns ``question``, ``context`` and ``answer``.

    The answer stands in the context word by word, and counts where it stands first; an empty one
    says that the context does not answer.

    Args:
        data: in the recipe's words, ``file`` and, where its columns have other names, ``fields``.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._table = open_source(data, columns=(QUESTION, CONTEXT, "answer"))
        self.columns = (QUESTION, CONTEXT, ANSWERS)
        self.files, self.identity = self._table.files, self._table.identity

    def __iter__(self) -> Iterator[Example]:
        for example in self._table:
            question, context, answer = example.fields
            if not f"{question}{context}".strip():  # an empty row is no question without answer
                continue
            place = context.find(answer) if answer else -1
            found = [(place, answer)] if answer else []
            yield _example(question, context, found, example.file, example.line)


def _example(
    question: str, context: str, answers: list[tuple[int, str]], file: str, line: int
) -> Example:
    made = Example((question, context, json.dumps(answers, ensure_ascii=False)), file, line)
    for place, text in answers:
        if not text.strip() or context[max(place, 0) : place + len(text)] != text:
            raise DataError(
                f"the answer {text!r} does not stand in the context where it should",
                where=made.origin,
                hint="places count characters from 0",
            )
    return made
