"""Guesses behind masks: how a text with masks is read, whatever the tokenizer."""

import pytest
import torch

from regard import registry
from regard.data.tokenizers.base import MASK, train_tokenizer
from regard.errors import InputError
from regard.recipe import Recipe

TEXT = "The old dog sleeps. The young cat, unlike dogs, plays! It is sad, is it?"


@pytest.fixture
def opened(tmp_path):
    def make(kind="wordpiece", *, next_sentence=False, lowercase=True, extra=(MASK,), longest=24):
        sized = {} if kind in ("chars", "bytes", "words") else {"vocab_size": 330}
        given = {
            "task": "masked-language-modeling",
            "data": {"max_length": longest},
            "tokenizer": {"kind": kind, "lowercase": lowercase},
            "objective": {"kind": "masked_lm", "next_sentence": next_sentence},
            "training": {"max_steps": 1},
            "model": {"preset": "tiny", "d_model": 16, "layer": {"feed_forward": {"d_ff": 24}}},
        }
        recipe = Recipe.from_settings(given)
        made = train_tokenizer(kind, [TEXT] * 3, lowercase=lowercase, extra=extra, **sized)
        made.save(tmp_path / "tokenizer.json")
        task = registry.task("masked-language-modeling")(recipe)
        task.open(tmp_path)
        config = recipe.model_config_for(task.model_settings())
        return task.predictor(registry.family("bert").model(config).eval())

    return make


SUBWORDS = ["wordpiece", "bpe", "unigram"]


@pytest.mark.parametrize("kind", [*SUBWORDS, "bytes", "chars", "words"])
@pytest.mark.parametrize(
    "text",
    [
        f"the {MASK} dog",
        f"{MASK} old dog",
        f"the old {MASK}",
        MASK,
        f"{MASK} old {MASK}",
        f"{MASK} {MASK}",
    ],
)
def test_masks_between_spaces(opened, kind, text):
    """What stands around a mask reads as around a word of one piece."""
    filler = opened(kind)
    tokenizer = filler.tokenizer
    ids = filler._read(text)
    assert ids.count(tokenizer.mask_id) == text.count(MASK)
    letter = text.replace(MASK, "q")
    pieces = [
        piece
        for piece, (start, end) in zip(
            tokenizer.encode(letter), tokenizer.offsets(letter), strict=True
        )
        if letter[start:end] != "q" and (kind in ("bytes", "chars") or start < end)
    ]
    assert [one for one in ids if one != tokenizer.mask_id] == pieces


@pytest.mark.parametrize("kind", [*SUBWORDS, "bytes", "chars"])
def test_what_touches_a_mask_is_read_as_it_touches_a_word(opened, kind):
    filler = opened(kind)
    ids = filler._read(f"The old {MASK}.")
    assert ids[-2] == filler.tokenizer.mask_id
    whole = filler.tokenizer.encode("the old dog.")
    assert ids[-1] == whole[-1]
    assert ids[:2] == whole[:2]


@pytest.mark.parametrize("kind", ["bytes", "chars"])
def test_spaces_stay_where_they_are_tokens(opened, kind):
    filler = opened(kind)
    dog, mask = filler.tokenizer.encode("the dog"), filler.tokenizer.mask_id
    assert filler._read(f"the {MASK}og") == [*dog[:4], mask, *dog[5:]]
    assert filler._read(f"the{MASK}dog") == [*dog[:3], mask, *dog[4:]]
    assert filler._read(f"the d{MASK}{MASK}") == [*dog[:5], mask, mask]


@pytest.mark.parametrize("kind", SUBWORDS)
def test_the_text_has_the_likeliest(opened, kind, monkeypatch):
    filler = opened(kind)
    cat = filler.tokenizer.encode("the cat")[1:]
    size = filler.tokenizer.vocab_size

    def logits(ids, mask):
        made = torch.zeros(*ids.shape, size)
        made[..., cat[0]] = 5.0
        made[..., 4] = 4.0
        return made

    monkeypatch.setattr(filler.model, "forward", logits)
    found = filler.fill(f"The old {MASK} plays. Is it sad?", top=3)
    begun = filler.tokenizer.decode(filler.tokenizer.encode("the old") + cat[:1])
    assert str(found) == found.text
    assert found.text == f"{begun} plays. is it sad?"
    ((first, second, third),) = found.masks
    assert (first.id, second.id) == (cat[0], 4)
    assert first.token == filler.tokenizer.tokens([cat[0]])[0]
    p = logits(torch.zeros(1, 1), None)[0, 0].softmax(dim=0)
    assert first.probability == pytest.approx(float(p.max()), rel=1e-5)
    assert first.probability > second.probability > third.probability


def test_one_and_many(opened):
    filler = opened(next_sentence=True)
    texts = [f"the {MASK} dog", f"{MASK} {MASK}"]
    many = filler.fill(texts, top=2)
    assert many == [filler.fill(text, top=2) for text in texts]
    assert [len(one.masks) for one in many] == [1, 2]
    assert all(len(guesses) == 2 for one in many for guesses in one.masks)
    assert "<Filler: BERT" in repr(filler)
    assert len(filler.fill(texts[0], top=10_000).masks[0]) == filler.tokenizer.vocab_size


def test_guesses_are_the_models(opened):
    filler = opened("bpe")
    ids = filler._read(f"the {MASK} dog")
    place = ids.index(filler.tokenizer.mask_id)
    with torch.no_grad():
        logits = filler.model(torch.tensor([[1, *ids, 2]]))
    p = logits[0, place + 1].softmax(dim=0)
    ((best,),) = filler.fill(f"the {MASK} dog", top=1).masks
    assert (best.id, best.probability) == (int(p.argmax()), pytest.approx(float(p.max()), rel=1e-4))


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("wordpiece", "the old dog", "there is no <mask>"),
        ("wordpiece", "", "there is no <mask>"),
        ("wordpiece", f"{MASK}" + " dog" * 22, "the text has 23 tokens, the model reads 22"),
        ("words", f"un{MASK}able", "are one piece to the tokenizer"),
    ],
)
def test_bad_texts(opened, kind, text, words):
    with pytest.raises(InputError, match=words):
        opened(kind).fill(text)


def test_as_long_as_the_model_reads(opened):
    assert len(opened().fill(MASK + " dog" * 21).masks) == 1


def test_a_tokenizer_without_masks(opened):
    with pytest.raises(InputError, match="no token to hide others behind"):
        opened(extra=()).fill(f"the {MASK}")


def test_no_guesses(opened):
    with pytest.raises(InputError, match="0 guesses are none"):
        opened().fill(f"the {MASK}", top=0)


def test_look(opened):
    from regard.look import look

    for next_sentence in (False, True):
        filler = opened(next_sentence=next_sentence)
        inputs = filler.look_inputs(f"the {MASK} dog", "cat")
        assert inputs["labels"][0, 2] == filler.tokenizer.encode("cat")[0]
        assert (inputs["labels"] != -100).sum() == 1
        assert look(filler, f"the {MASK} {MASK}").trace.loss > 0
        with pytest.raises(InputError, match="is not one token behind one mask"):
            filler.look_inputs(f"the {MASK} {MASK}", "cat")
