"""SQuAD's form and tables of questions: what comes out, and what is refused."""

import gzip
import json

import pytest

from regard.data.readers.squad import QuestionTable, Squad
from regard.errors import DataError, RecipeError

CONTEXT = "The old dog sleeps. The young dog plays."


def answer(text, start=None):
    return {"text": text, "answer_start": CONTEXT.find(text) if start is None else start}


def squad(*questions, context=CONTEXT):
    made = [{"id": str(n), **one} for n, one in enumerate(questions)]
    return {"version": "1", "data": [{"paragraphs": [{"context": context, "qas": made}]}]}


def asked(question="Who?", *answers, **more):
    return {"question": question, "answers": list(answers), **more}


@pytest.fixture
def written(tmp_path):
    def write(value, name="a.json"):
        path = tmp_path / name
        text = value if isinstance(value, str) else json.dumps(value)
        opened = gzip.open if name.endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8") as file:
            file.write(text)
        return path

    return write


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_questions_with_every_answer(written, name):
    value = squad(
        asked("Who sleeps?", answer("The old dog"), answer("dog", 30)),
        asked("Who barks?"),
        asked("Who eats?", answer("dog"), is_impossible=True, plausible_answers=[answer("dog")]),
    )
    value["data"] += squad(asked("Où?", {"text": "ça", "answer_start": 1}), context="«ça»")["data"]
    path = written(value, name)
    rows = list(Squad(path))
    assert [one.fields[0] for one in rows] == ["Who sleeps?", "Who barks?", "Who eats?", "Où?"]
    assert [json.loads(one.fields[2]) for one in rows] == [
        [[0, "The old dog"], [30, "dog"]],
        [],
        [],
        [[1, "ça"]],
    ]
    assert [one.origin for one in rows] == [f"{path}:{n}" for n in (1, 2, 3, 4)]
    assert rows[0].fields[1] == CONTEXT


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "not SQuAD's form, from question 1 on"),
        ("[]", "not SQuAD's form"),
        ({"data": 7}, "not SQuAD's form"),
        ({"data": [{"paragraphs": [{"qas": [asked()]}]}]}, "'context'"),
        (squad(asked(), {"question": "Who?"}), "from question 3 on: KeyError('answers')"),
        (squad({"answers": []}), "KeyError('question')"),
        (squad(asked("Who?", {"text": "dog"})), "KeyError('answer_start')"),
        (squad(asked("Who?", {"text": "dog", "answer_start": "x"})), "not SQuAD's form"),
        (squad(asked("Who?", "dog")), "not SQuAD's form"),
        ({"data": [{"paragraphs": [{"context": "a", "qas": ["Who?"]}]}]}, "not SQuAD's form"),
        ("[" * 100_000, "not SQuAD's form"),
        ({"data": []}, "there is no question in it"),
        (squad(asked("Who?", answer("dog", 9))), "a.json:1: the answer 'dog' does not stand"),
        (squad(asked("Who?", answer("dog", -1))), "does not stand in the context"),
        (squad(asked("Who?", answer("plays", -6))), "does not stand in the context"),
        (squad(asked("Who?", answer("dog", 4000))), "does not stand in the context"),
        (squad(asked("Who?", answer("", 3))), "does not stand in the context"),
        (squad(asked("Who?", answer(" ", 3))), "does not stand in the context"),
        (squad(asked(7.5, answer("cat", 3))), "the answer 'cat' does not stand"),
        (squad(asked(["Who?"])), "field 'question' holds a list, not a text"),
        (squad(asked("half \ud800")), "half a character"),
    ],
)
def test_other_forms(written, value, words):
    with pytest.raises(DataError) as error:
        list(Squad(written(value)))
    assert words in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        Squad(tmp_path / "a.json")


class TestTables:
    def test_the_answer_stands_where_it_is_first(self, written):
        rows = [
            {"question": "Who?", "context": CONTEXT, "answer": "dog"},
            {"question": "Where?", "context": CONTEXT, "answer": ""},
            {"question": "When?", "context": CONTEXT, "answer": None},
        ]
        path = written("\n".join(map(json.dumps, rows)), "a.jsonl")
        found = [json.loads(one.fields[2]) for one in QuestionTable({"file": str(path)})]
        assert found == [[[8, "dog"]], [], []]

    def test_columns_of_other_names(self, written):
        path = written("q\tc\ta\nWho?\tThe dog.\tdog\n", "a.tsv")
        fields = {"question": "q", "context": "c", "answer": "a"}
        (one,) = QuestionTable({"file": str(path), "fields": fields})
        assert one.fields == ("Who?", "The dog.", '[[4, "dog"]]')
        assert one.origin == f"{path}:2"

    @pytest.mark.parametrize(
        ("text", "data", "error", "words"),
        [
            ("question\tcontext\nWho?\tdog\n", {}, DataError, "there is no field 'answer'"),
            ("question\tcontext\tanswer\nWho?\ta dog\tcat\n", {}, DataError, "a.tsv:2: the answer"),
            ("question\tcontext\tanswer\nWho?\ta dog\n", {}, DataError, "the row has 2 fields"),
            ("", {"fields": {"question": "q"}}, RecipeError, "lacks the key 'context'"),
            ("", {"fields": {"questoin": "q"}}, RecipeError, "did you mean 'question'"),
        ],
    )
    def test_bad_tables(self, written, text, data, error, words):
        path = written(text, "a.tsv")
        with pytest.raises(error) as raised:
            list(QuestionTable({"file": str(path), **data}))
        assert words in str(raised.value)
