"""Texts as an encoder reads them: special tokens, segments, what is cut, where words begin."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard.data import PreparedData
from regard.data.codecs import Labels
from regard.data.framed import IGNORED, Frame, TaggedTexts, Texts, cut

FRAME = Frame(start_id=1, end_id=2, pad_id=0)
ONE = [[10], [11, 12, 13], [14, 15]]
TWO = [[20, 21], [22], [23, 24, 25, 26]]
LABELS = [[0], [1], [1]]
ALL = np.arange(3)


@pytest.fixture
def data():
    return PreparedData.in_memory({"text": ONE, "pair": TWO, "label": LABELS})


def test_one_text(data):
    batch = Texts(("text",), FRAME, 9, ("label", Labels("ab")))(data, np.array([0, 1]))
    assert batch["ids"].tolist() == [[1, 10, 2, 0, 0], [1, 11, 12, 13, 2]]
    assert batch["mask"].tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch["labels"].tolist() == [0, 1]
    assert batch["example"].tolist() == [0, 1]
    assert batch.keys() == {"ids", "mask", "labels", "example"}


def test_pairs_have_segments(data):
    texts = Texts(("text", "pair"), FRAME, 99)
    batch = texts(data, np.array([1, 0]))
    assert batch["ids"].tolist() == [[1, 11, 12, 13, 2, 22, 2], [1, 10, 2, 20, 21, 2, 0]]
    assert batch["segments"].tolist() == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 0]]
    assert texts.lengths(data).tolist() == [[6], [7], [9]]


def test_two_separators_and_no_segments(data):
    """RoBERTa's."""
    frame = Frame(1, 2, 0, separators=2, num_segments=1)
    texts = Texts(("text", "pair"), frame, 99)
    batch = texts(data, np.array([0]))
    assert batch["ids"].tolist() == [[1, 10, 2, 2, 20, 21, 2]]
    assert "segments" not in batch
    assert texts.lengths(data)[0] == 7
    assert frame.places([1, 2]).tolist() == [1, 4, 5]
    assert FRAME.places([1, 2]).tolist() == [1, 3, 4]
    assert FRAME.places([3]).tolist() == [1, 2, 3]


@pytest.mark.parametrize("longest", range(5, 12))
@pytest.mark.parametrize("separators", [1, 2])
def test_what_is_too_long_loses_its_end(data, longest, separators):
    frame = Frame(1, 2, 0, separators=separators)
    for columns in (("text",), ("text", "pair")):
        texts = Texts(columns, frame, longest)
        batch = texts(data, ALL)
        assert batch["ids"].shape[1] <= longest
        assert batch["mask"].sum(dim=1).tolist() == texts.lengths(data)[:, 0].tolist()
        for row, example, real in zip(batch["ids"], range(3), batch["mask"], strict=True):
            kept = [i for i in row[real].tolist() if i > 2]
            first = [i for i in kept if i < 20]
            assert first == ONE[example][: len(first)]
            assert kept[len(first) :] == TWO[example][: len(kept) - len(first)]


def naive(first, second, room):
    """A token off the longer one, the second where they are alike, until they fit."""
    while first + second > room:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=9),
    st.integers(0, 60),
)
def test_the_longer_text_is_cut_first(sizes, room):
    """As the loop of Devlin et al.'s code does it; which of two alike loses one does not matter."""
    found = cut(np.array(sizes), room)
    for (first, second), kept in zip(sizes, found.tolist(), strict=True):
        wanted = naive(first, second, room)
        assert sum(kept) == sum(wanted)
        assert sorted(kept) == sorted(wanted)
        assert kept[0] <= first
        assert kept[1] <= second
        if first + second <= room:
            assert kept == [first, second]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=9), st.integers(0, 30))
def test_one_text_is_cut_alone(sizes, room):
    assert cut(np.array(sizes)[:, None], room)[:, 0].tolist() == [min(n, room) for n in sizes]


SIZES = [[1], [2, 1], [1, 1]]
TAGS = [[0], [1, 2], [3, 0]]


class TestTagged:
    @pytest.fixture
    def data(self):
        return PreparedData.in_memory({"pieces": ONE, "lengths": SIZES, "tags": TAGS})

    def test_a_label_at_the_first_piece_of_each_word(self, data):
        batch = TaggedTexts(Texts(("pieces",), FRAME, 9), "lengths", "tags")(data, ALL)
        x = IGNORED
        assert batch["labels"].tolist() == [[x, 0, x, x, x], [x, 1, x, 2, x], [x, 3, 0, x, x]]
        assert torch.equal(batch["firsts"], batch["labels"] != x)
        assert batch["ids"].tolist()[1] == [1, 11, 12, 13, 2]

    @pytest.mark.parametrize(("longest", "labels"), [(4, [1]), (5, [1, 2]), (3, [1])])
    def test_words_beyond_the_end_have_none(self, data, longest, labels):
        texts = TaggedTexts(Texts(("pieces",), FRAME, longest), "lengths", "tags")
        batch = texts(data, np.array([1]))
        held = batch["labels"][batch["labels"] != IGNORED].tolist()
        assert held == labels
        assert int(batch["firsts"].sum()) == len(labels)
        assert texts.lengths(data)[1] == longest

    def test_without_labels(self, data):
        batch = TaggedTexts(Texts(("pieces",), FRAME, 9), "lengths", None)(data, ALL)
        assert "labels" not in batch
        assert batch["firsts"].sum(dim=1).tolist() == [1, 2, 2]

    def test_stored_lengths_are_unsigned(self):
        """They come so out of prepared data."""
        data = PreparedData.in_memory({"pieces": [[5, 6, 7]], "lengths": [[2, 1]]})
        data.column("lengths").ids.dtype = np.uint64
        batch = TaggedTexts(Texts(("pieces",), FRAME, 9), "lengths", None)(data, np.array([0]))
        assert batch["firsts"].tolist() == [[False, True, False, True, False]]
