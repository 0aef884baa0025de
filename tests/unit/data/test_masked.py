"""Masked blocks: which tokens are hidden, how, and from what it follows."""

import itertools

import numpy as np
import pytest
import torch

from regard.data import BlockSettings, BlockSource, PreparedData
from regard.data.framed import IGNORED, Frame
from regard.data.masked import MaskedBlocks, Masking
from regard.data.tokenizers.base import MASK, train_tokenizer
from regard.data.tokenizers.imported import imported
from regard.errors import RecipeError
from regard.interop.sentencepiece import added_token

TEXTS = [
    "the old dog sleeps, the young cat plays.\nunbelievable things happened yesterday!",
    "nobody understood the overwhelming complexity; everybody complained.\tlater it rained",
]
SPECIALS = 5
"""Four and the mask, which stands last."""
V = 60
FRAME = Frame(1, 2, 0)


def tokenizer(kind="wordpiece", size=120):
    sized = {} if kind in ("bytes", "chars", "words") else {"vocab_size": size}
    if kind in ("bpe", "unigram"):
        sized = {"vocab_size": 330}
    return train_tokenizer(kind, TEXTS * 3, extra=(MASK,), **sized)


def masking(rate=0.15, vocab=V):
    ordinary = np.ones(vocab, dtype=bool)
    ordinary[[0, 1, 2, 3, vocab - 1]] = False
    return Masking(rate, vocab - 1, ordinary)


def blocks(length=32, count=4, *, rows=None, seed=1, shuffle=True, apart=False):
    if rows is None:
        draw = np.random.default_rng(0)
        rows = [draw.integers(4, V - 1, size=size).tolist() for size in (211, 90, 333)]
    data = PreparedData.in_memory({"text": rows})
    return BlockSource(data, BlockSettings(length, count, 2 if apart else None, seed, shuffle))


def masked(source=None, *, next_sentence=False, rate=0.15):
    source = source or blocks()
    return MaskedBlocks(source, FRAME, masking(rate), next_sentence=next_sentence)


def epoch_of(found, epoch=0):
    return [found.micro_batch(epoch, k) for k in range(found.num_micro_batches(epoch))]


def random(*numbers):
    return np.random.Philox(np.random.SeedSequence(list(numbers)))


class TestHide:
    @pytest.mark.parametrize("rate", [0.05, 0.15, 0.4, 0.9])
    @pytest.mark.parametrize("size", [1, 2, 7, 100, 511])
    def test_the_exact_number_is_to_be_guessed(self, rate, size):
        ids = np.random.default_rng(size).integers(4, V - 1, size=size)
        before = ids.copy()
        labels = masking(rate).hide(ids, random(size))
        assert (labels != IGNORED).sum() == max(1, round(rate * size))
        kept = labels == IGNORED
        assert (ids[kept] == before[kept]).all()
        assert (labels[~kept] == before[~kept]).all()

    def test_eight_one_and_one_of_ten(self):
        before = np.full(200_000, 7)
        ids = before.copy()
        labels = masking().hide(ids, random(5))
        chosen = ids[labels != IGNORED]
        count = len(chosen)
        assert count == 30_000
        bound = 4 * (0.25 / count) ** 0.5
        assert np.mean(chosen == V - 1) == pytest.approx(0.8, abs=bound)
        assert np.mean(chosen == 7) == pytest.approx(0.1 + 0.1 / (V - 5), abs=bound)
        others = chosen[(chosen != V - 1) & (chosen != 7)]
        assert set(others.tolist()) == set(range(4, V - 1)) - {7}  # each, and no special one

    def test_places_are_alike(self):
        hits = np.zeros(20)
        for seed in range(4000):
            ids = np.full(20, 7)
            hits += masking().hide(ids, random(seed)) != IGNORED
        assert hits / 4000 == pytest.approx(np.full(20, 0.15), abs=0.03)

    def test_special_ones_are_never_hidden(self):
        ids = np.array([2, 3, 0, 1, V - 1] * 40 + [9, 10])
        labels = masking(0.5).hide(ids, random(1))
        assert (labels[:-2] == IGNORED).all()
        assert (labels != IGNORED).sum() == 1
        alone = np.array([2, 3])
        assert (masking(0.5).hide(alone, random(1)) == IGNORED).all()

    def test_nothing_special_is_among_the_replacements(self):
        made = tokenizer()
        found = Masking.of(made, 0.15, whole_word=False)
        assert np.nonzero(~found.ordinary)[0].tolist() == [0, 1, 2, 3, made.vocab_size - 1]
        assert made.vocabulary[found.mask_id] == MASK

    def test_of_the_field(self):
        """Its special tokens stand anywhere; what it lacks bars nothing."""
        definition = tokenizer().definition
        vocab = {"a": 0, "[MASK]": 1, "b": 2, "[CLS]": 3, "[SEP]": 4, "[new]": 5, "c": 6}
        definition["model"] |= {"vocab": vocab, "unk_token": "a"}
        definition["added_tokens"] = [added_token(5, "[new]"), added_token(1, "[MASK]")]
        found = imported(definition, {"start": 3, "end": 4, "mask": 1})
        assert found.unk_id == -1
        assert found.special_ids == {1, 3, 4, 5}
        hidden = Masking.of(found, 0.15, whole_word=False)
        assert np.nonzero(hidden.ordinary)[0].tolist() == [0, 2, 6]
        bare = imported({}, {"end": 3, "mask": 5}, vocab_size=9)
        assert bare.special_ids == {3, 5}

    def test_a_tokenizer_without_a_mask(self):
        plain = train_tokenizer("wordpiece", TEXTS, vocab_size=100)
        with pytest.raises(RecipeError, match="no entry <mask>"):
            Masking.of(plain, 0.15, whole_word=False)


def words_by_text(made, ids):
    """The number of the word of each id, by the white space of what it spells."""
    if made.kind == "wordpiece":
        begin = [not made.vocabulary[i].startswith("##") for i in ids]
        return list(itertools.accumulate(map(int, begin)))
    numbers, number, after_break = [], 0, False
    for i in ids:
        label = made.tokens([i])[0].replace("<U+000A>", "\n").replace("<U+0009>", "\t")
        label = label.replace("<0x0A>", "\n").replace("<0x09>", "\t")
        number += label[0] in "▁\n\t" or after_break
        after_break = label[-1] in "\n\t"
        numbers.append(number)
    return numbers


class TestWholeWords:
    @pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "bytes"])
    def test_all_pieces_of_a_word_and_none_else(self, kind):
        made = tokenizer(kind)
        found = Masking.of(made, 0.3, whole_word=True)
        every = np.array(made.encode("\n".join(TEXTS)))
        seen = set()
        for start in range(0, len(every) - 30, 3):
            ids = every[start : start + 30].copy()
            words = np.array(words_by_text(made, ids))
            labels = found.hide(ids, random(start))
            hidden = set(words[labels != IGNORED].tolist())
            assert (np.isin(words, list(hidden)) == (labels != IGNORED)).all()
            count = (labels != IGNORED).sum()
            sizes = np.bincount(words)[words.min() :]
            assert 0 < count <= max(9, sizes.max())
            seen |= {(len(hidden), count)}
        assert any(count > words for words, count in seen)

    def test_a_break_is_no_part_of_the_word_behind_it(self):
        made = tokenizer("bpe")
        found = Masking.of(made, 0.5, whole_word=True)
        ids = np.array(made.encode("the\nold dog the old dog"))
        place = [made.tokens([i])[0] for i in ids].index("<U+000A>")
        alone = set()
        for seed in range(60):
            hidden = found.hide(ids.copy(), random(seed)) != IGNORED
            alone.add((bool(hidden[place]), bool(hidden[place + 1])))
        assert {(True, False), (False, True)} <= alone

    def test_a_block_may_begin_within_a_word(self):
        made = tokenizer()
        found = Masking.of(made, 0.15, whole_word=True)
        inside = next(i for i, e in enumerate(made.vocabulary) if e.startswith("##"))
        whole = made.vocabulary.index("t")
        taken = set()
        for seed in range(60):
            ids = np.array([inside, whole, inside, inside])
            hidden = found.hide(ids, random(seed)) != IGNORED
            taken.add(tuple(hidden.tolist()))
        # One token is wanted: the first piece fits, the word of three is too long for it.
        assert taken == {(True, False, False, False)}

    def test_the_share_is_filled_as_far_as_words_fit(self):
        made = tokenizer()
        found = Masking.of(made, 0.5, whole_word=True)
        inside = next(i for i, e in enumerate(made.vocabulary) if e.startswith("##"))
        whole = made.vocabulary.index("t")
        ids = np.array([whole, inside, inside, whole, whole, whole])
        for seed in range(50):
            given = ids.copy()
            assert (found.hide(given, random(seed)) != IGNORED).sum() == 3

    def test_words_too_long_for_the_share(self):
        made = tokenizer()
        found = Masking.of(made, 0.15, whole_word=True)
        inside = next(i for i, e in enumerate(made.vocabulary) if e.startswith("##"))
        ids = np.array([made.vocabulary.index("t"), inside, inside] * 2)
        labels = found.hide(ids, random(3))
        assert (labels != IGNORED).tolist() in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)

    def test_another_segment_begins_another_word(self):
        made = tokenizer()
        found = Masking.of(made, 0.3, whole_word=True)
        inside = next(i for i, e in enumerate(made.vocabulary) if e.startswith("##"))
        ids = [made.vocabulary.index("t"), inside, inside]
        for begins, sizes in (((0,), {3}), ((0, 2), {1})):
            counts = {
                int((found.hide(np.array(ids), random(s), begins) != IGNORED).sum())
                for s in range(20)
            }
            assert counts == sizes

    @pytest.mark.parametrize("kind", ["chars", "words"])
    def test_kinds_that_do_not_tell(self, kind):
        with pytest.raises(RecipeError, match="does not tell where words begin"):
            Masking.of(tokenizer(kind), 0.15, whole_word=True)


class TestBlocks:
    @pytest.mark.parametrize("next_sentence", [False, True])
    @pytest.mark.parametrize("apart", [False, True])
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_what_is_not_to_be_guessed_is_the_text(self, next_sentence, apart, shuffle):
        source = blocks(shuffle=shuffle, apart=apart)
        found = masked(source, next_sentence=next_sentence)
        for k, batch in enumerate(epoch_of(found)):
            raw = source.micro_batch(0, k)
            ids, labels, mask = batch["ids"], batch["labels"], batch["mask"]
            assert ids.shape == labels.shape == mask.shape
            assert mask.all()
            right = torch.where(labels == IGNORED, ids, labels)
            assert (right[:, 0] == 1).all()
            assert (right[:, -1] == 2).all()
            for n in range(len(ids)):
                row = raw["ids"][n]
                if not next_sentence:
                    assert right[n, 1:-1].tolist() == row.tolist()
                    continue
                second = int(batch["segments"][n].argmax())
                assert int(right[n, second - 1]) == 2
                assert right[n, 1 : second - 1].tolist() == row[: second - 2].tolist()
                if not batch["unrelated"][n]:
                    assert right[n, second:-1].tolist() == row[second - 2 :].tolist()
            assert (labels[:, 0] == IGNORED).all()
            assert not ((labels != IGNORED) & (right < 4)).any()
            assert found.tokens()[k].tolist() == [int(mask.sum())]
        assert found.worst() == int(found.tokens()[:, 0].argmax())

    def test_half_of_the_segments_lie_elsewhere(self):
        rows = [np.arange(4, 4000).tolist()]
        source = blocks(16, 8, rows=rows)
        whole = Masking(0.15, 4000, np.arange(4001) > 3)
        found = MaskedBlocks(source, FRAME, whole, next_sentence=True)
        count = other = 0
        for epoch in range(4):
            for batch in epoch_of(found, epoch):
                right = torch.where(batch["labels"] == IGNORED, batch["ids"], batch["labels"])
                for n, unrelated in enumerate(batch["unrelated"].tolist()):
                    cut = int(batch["segments"][n].argmax())
                    first, second = right[n, 1 : cut - 1].tolist(), right[n, cut:-1].tolist()
                    assert second == list(range(second[0], second[0] + len(second)))
                    follows = second[0] == first[-1] + 1
                    assert follows != bool(unrelated)
                    if unrelated:
                        here = set(range(first[0], first[0] + 17))
                        assert here.isdisjoint(second)
                    count, other = count + 1, other + unrelated
        assert other / count == pytest.approx(0.5, abs=0.06)

    def test_a_text_of_one_block_has_nowhere_else(self):
        source = blocks(16, 1, rows=[list(range(4, 21))], shuffle=False)
        (batch,) = epoch_of(masked(source, next_sentence=True))
        assert batch["unrelated"].tolist() == [0]

    def test_the_same_whenever_it_is_asked_for(self):
        one, two = masked(), masked()
        last = one.num_micro_batches(1) - 1
        wanted = one.micro_batch(1, last)
        epoch_of(two)
        again = two.micro_batch(1, last)
        assert all(torch.equal(wanted[name], again[name]) for name in wanted)

    def test_masks_follow_from_seed_epoch_and_place(self):
        """A block has the same masks in batches of any size; other epochs and seeds have others."""

        def rows(count, seed=1, epoch=0):
            found = masked(blocks(count=count, seed=seed, shuffle=False))
            made = epoch_of(found, epoch)
            return {
                start: row.tolist()
                for batch in made
                for start, row in zip(batch["start"].tolist(), batch["labels"], strict=True)
            }

        assert rows(1) == rows(3) == rows(100)
        assert rows(4) == rows(4)
        assert all(rows(4, seed=2)[start] != row for start, row in rows(4).items())
        assert all(rows(4, epoch=1)[start] != row for start, row in rows(4).items())

    def test_the_short_last_block(self):
        source = blocks(32, 4, rows=[list(range(4, 40))], shuffle=False)
        made = epoch_of(masked(source))
        assert [batch["ids"].shape for batch in made] == [(1, 35), (1, 6)]
        assert [(batch["labels"] != IGNORED).sum() for batch in made] == [5, 1]

    def test_separators_are_not_hidden(self):
        draw = np.random.default_rng(0)
        rows = [draw.integers(4, V - 1, size=3).tolist() for _ in range(200)]
        found = masked(blocks(rows=rows, apart=True), rate=0.9)
        made = epoch_of(found)
        assert any((batch["ids"][:, 1:-1] == 2).any() for batch in made)
        for batch in made:
            assert not (batch["labels"] == 2).any()

    def test_batches_say_where_they_come_from(self):
        found = masked()
        batch = found.micro_batch(0, 0)
        assert found.describe(batch) == found.blocks.describe(batch)
        found.close()
