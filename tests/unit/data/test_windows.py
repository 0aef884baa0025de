"""Windows: every piece is read, labels are the answer's place, whatever cuts the text in pieces."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regard.data import PreparedData
from regard.data.framed import Frame
from regard.data.tokenizers.base import train_tokenizer
from regard.data.windows import LONGEST_QUESTION, AnswerPlace, Offsets, Windows
from regard.errors import DataError, RecipeError

TEXTS = [
    'The "old" dog (a Dachshund) sleeps; its friend — the 7-year-old cat — doesn\'t.',
    "Zürich had 415,367 inhabitants in 2018, i.e. 4.9% of 8.5m.\nIts river: the Limmat.",
    "ΟΔΥΣΣΕΥΣ and İstanbul, straße, naïve; 東京 is big 🐈‍⬛ (cats).  Two  spaces\tand a tab.",
]
KINDS = ["bpe", "unigram", "wordpiece", "bytes", "chars", "words"]
FRAME = Frame(1, 2, 0)


def learned(kind, lowercase=False):
    sized = {"bpe": 330, "unigram": 330, "wordpiece": 150}
    more = {"vocab_size": sized[kind]} if kind in sized else {}
    return train_tokenizer(kind, TEXTS, lowercase=lowercase, **more)


TOKENIZERS = {(kind, lower): learned(kind, lower) for kind in KINDS for lower in (False, True)}


def data_of(rows, tokenizer=None):
    """Prepared questions: rows of (question, context, place and text of the answer or None)."""
    answers = [json.dumps([found] if found else []) for *_, found in rows]
    contexts = [context for _, context, _ in rows]
    return PreparedData.in_memory(
        {
            "question": tokenizer.encode_batch([question for question, *_ in rows]),
            "context": tokenizer.encode_batch(contexts),
            "offsets": Offsets(tokenizer).encode_batch(contexts),
            "answer": AnswerPlace().encode_batch(answers),
        }
    )


def by_sizes(*sizes, answers=None):
    """The same of pieces that are letters: (pieces of the question, pieces of the context)."""
    rows = [
        (
            [5] * question,
            list(range(10, 10 + context)),
            [at for n in range(context) for at in (n, n + 1)],
        )
        for question, context in sizes
    ]
    questions, contexts, offsets = (list(part) for part in zip(*rows, strict=True))
    held = answers or [[] for _ in sizes]
    return PreparedData.in_memory(
        {"question": questions, "context": contexts, "offsets": offsets, "answer": held}
    )


def batch_of(windows, data):
    return windows(data, np.arange(len(windows.placed(data).examples)))


class TestPlaces:
    @given(
        st.lists(st.tuples(st.integers(1, 90), st.integers(1, 200)), min_size=1, max_size=5),
        st.integers(12, 80),
        st.integers(1, 60),
    )
    @settings(max_examples=150)
    def test_every_piece_is_read(self, sizes, longest, stride):
        windows = Windows(FRAME, longest, stride)
        data = by_sizes(*sizes)
        placed = windows.placed(data)
        batch = batch_of(windows, data)
        lengths = windows.lengths(data)[:, 0]
        assert batch["mask"].sum(dim=1).tolist() == lengths.tolist()
        assert lengths.max() <= longest
        for number, (question, context) in enumerate(sizes):
            here = placed.examples == number
            kept = min(question, LONGEST_QUESTION, longest // 4)
            room = longest - 3 - kept
            begins, counts = placed.begins[here], placed.contexts[here]
            assert (placed.questions[here] == kept).all()
            apart = min(stride, max(room // 2, 1))
            assert begins.tolist() == [n * apart for n in range(len(begins))]
            assert begins[-1] + counts[-1] == context
            assert (counts[:-1] == room).all()
            read = {p for b, c in zip(begins, counts, strict=True) for p in range(b, b + c)}
            assert read == set(range(context))
            # No more windows than are needed: without the last one something is unread.
            assert len(begins) == 1 or begins[-2] + counts[-2] < context
        for row, (number, first, begin, size) in zip(
            batch["ids"],
            np.array([batch[n].tolist() for n in ("example", "first", "begin", "size")]).T,
            strict=True,
        ):
            pieces = row[first : first + size].tolist()
            assert pieces == list(range(10 + begin, 10 + begin + size))
            assert int(row[first - 1]) == int(row[first + size]) == 2
            assert number in range(len(sizes))

    @given(st.integers(1, 200), st.integers(12, 60), st.integers(1, 40), st.data())
    @settings(max_examples=150)
    def test_an_answer_is_labeled_where_it_is_whole(self, context, longest, stride, draw):
        start = draw.draw(st.integers(0, context - 1))
        end = draw.draw(st.integers(start + 1, min(context, start + 40)))
        windows = Windows(FRAME, longest, stride)
        data = by_sizes((5, context), answers=[[start, end]])
        batch = batch_of(windows, data)
        found = 0
        for row, labels, begin, size in zip(
            batch["ids"], batch["labels"].tolist(), batch["begin"], batch["size"], strict=True
        ):
            whole = begin <= start and end <= begin + size
            assert bool(whole) == (labels != [0, 0])
            found += bool(whole)
            if whole:
                pieces = row[labels[0] : labels[1] + 1].tolist()
                assert pieces == list(range(10 + start, 10 + end))
        room = int(batch["size"].max())
        assert found or end - start > room // 2

    def test_no_answer_is_the_start_token(self):
        batch = batch_of(Windows(FRAME, 20, 8), by_sizes((4, 60)))
        assert len(batch["labels"]) > 3
        assert not batch["labels"].any()

    def test_without_answers_there_are_no_labels(self):
        windows = Windows(FRAME, 20, 8, answered=False)
        assert "labels" not in batch_of(windows, by_sizes((4, 60)))

    def test_segments_tell_question_from_text(self):
        batch = batch_of(Windows(FRAME, 32, 8), by_sizes((4, 6)))
        assert batch["segments"].tolist() == [[0] * 6 + [1] * 7]
        bare = Windows(Frame(1, 2, 0, separators=2, num_segments=1), 32, 8)
        batch = batch_of(bare, by_sizes((4, 6)))
        assert "segments" not in batch
        assert batch["first"].tolist() == [7]
        assert batch["ids"][0, 5:7].tolist() == [2, 2]

    @pytest.mark.parametrize("longest", [1, 3, 4])
    def test_no_room(self, longest):
        with pytest.raises(RecipeError, match="leave no room for a question and a text"):
            Windows(FRAME, longest, 8)


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("kind", KINDS)
class TestPieces:
    @given(st.data())
    @settings(max_examples=60)
    def test_labels_hold_the_answer(self, kind, lower, data):
        """Random stretches of texts: what the labels decode to holds the answer."""
        tokenizer = TOKENIZERS[kind, lower]
        text = data.draw(st.sampled_from(TEXTS))
        start = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(start + 1, len(text)))
        answer = text[start:end]
        if not answer.strip():
            return
        longest = data.draw(st.sampled_from([24, 60, 400]))
        windows = Windows(FRAME, longest, 9)
        held = data_of([("Who?", text, [start, answer])], tokenizer)
        batch = batch_of(windows, held)
        spans = Offsets(tokenizer).encode_batch([text])[0]
        for labels, row, first, begin in zip(
            batch["labels"].tolist(), batch["ids"], batch["first"], batch["begin"], strict=True
        ):
            if labels == [0, 0]:
                continue
            left, right = (int(label - first + begin) for label in labels)
            reached = text[spans[2 * left] : spans[2 * right + 1]]
            assert answer.strip() in reached
            # Nothing more than the pieces that the answer's ends lie in.
            assert spans[2 * left + 1] > start
            assert spans[2 * right] < end
            made = tokenizer.decode(row[labels[0] : labels[1] + 1].tolist())
            if "<unk>" not in made and "\ufffd" not in made:
                wanted = answer.strip()
                wanted = "".join(map(str.lower, wanted)) if lower else wanted
                assert squeezed(wanted) in squeezed(made)

    @given(st.text(max_size=40))
    @settings(max_examples=100)
    def test_offsets_are_of_the_pieces(self, kind, lower, text):
        """As many as pieces, in order, inside the text."""
        tokenizer = TOKENIZERS[kind, lower]
        spans = tokenizer.offsets(text)
        assert len(spans) == len(tokenizer.encode(text))
        flat = [place for span in spans for place in span]
        assert all(0 <= place <= len(text) for place in flat)
        assert all(start <= end for start, end in spans)
        assert [start for start, _ in spans] == sorted(start for start, _ in spans)
        assert [end for _, end in spans] == sorted(end for _, end in spans)


def squeezed(text):
    return "".join(text.split())


def test_recurring_texts_are_cut_once(monkeypatch):
    tokenizer = TOKENIZERS["wordpiece", False]
    asked = []
    plain = type(tokenizer).offsets
    monkeypatch.setattr(
        type(tokenizer), "offsets", lambda self, text: asked.append(text) or plain(self, text)
    )
    rows = Offsets(tokenizer).encode_batch([TEXTS[0], TEXTS[1], TEXTS[0]])
    assert sorted(asked) == sorted(TEXTS[:2])
    assert rows[0] == rows[2] != rows[1]


@pytest.mark.parametrize("text", ["", "7", "[7]", '[["a", "b"]]', "[[1]]", "{}x"])
def test_no_list_of_answers(text):
    with pytest.raises(DataError, match="is no list of answers"):
        AnswerPlace().encode_batch(["[]", text])
