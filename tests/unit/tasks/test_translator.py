"""The door for users, on a model with random weights."""

import pytest
import torch

from regard.data import train_tokenizer
from regard.decoding import DecodingSpec
from regard.errors import InputError
from regard.models import Transformer
from regard.models.transformer import TransformerConfig
from regard.tasks.generation import Hypothesis
from regard.tasks.translator import Translator

TEXTS = ["a b c", "", "d", "  ", "e a c b d"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("words", ["a b c d e"])


def translator(tokenizer, **decoding):
    torch.manual_seed(5)
    settings = {"d_model": 16, "num_layers": 1, "max_positions": 12}
    config = TransformerConfig.preset("tiny", vocab_size=tokenizer.vocab_size, overrides=settings)
    model = Transformer(config).eval()
    return Translator(model, {"source": tokenizer, "target": tokenizer}, DecodingSpec(**decoding))


def test_empty_texts_stay_in_their_places(tokenizer):
    found = translator(tokenizer).translate(TEXTS)
    assert [bool(text) for text in found] == [True, False, True, False, True]
    rows = translator(tokenizer).ranked(TEXTS, nbest=2)
    assert rows[1] == [Hypothesis("", 0.0, ())] * 2
    assert translator(tokenizer).translate(["", " "]) == ["", ""]


@pytest.mark.parametrize("given", [3, None, ["a", 3]])
def test_what_is_no_text_is_named(tokenizer, given):
    with pytest.raises(InputError, match=r"a text is wanted, .* not (3|None)"):
        translator(tokenizer).translate(given)


def test_the_shape_follows_what_is_asked(tokenizer):
    """Not how many hypotheses there happened to be."""
    one = translator(tokenizer, beam=3)
    assert isinstance(one.translate("a"), str)
    assert isinstance(one.translate("a", nbest=2), list)
    short = one.translate(["a", "b"], nbest=3, max_length=1)
    assert all(isinstance(row, list) for row in short)
    several = translator(tokenizer, nbest=2)
    assert isinstance(several.translate("a")[0], Hypothesis)
    assert isinstance(several.translate("a", nbest=1), str)


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample"])
def test_batches_and_order_change_nothing(tokenizer, strategy):
    made = translator(tokenizer, strategy=strategy)
    whole = [row[0] for row in made.ranked(TEXTS)]
    alone = [row[0] for row in made.ranked(TEXTS, batch_tokens=1)]
    assert [one.text for one in alone] == [one.text for one in whole]
    assert [one.score for one in alone] == pytest.approx([one.score for one in whole], abs=1e-5)
    if strategy != "sample":  # draws follow a text's number
        turned = made.translate(TEXTS[::-1])[::-1]
        assert turned == [one.text for one in whole]


def test_prefixes(tokenizer):
    made = translator(tokenizer)
    assert made.translate(TEXTS, prefix="b c")[0].startswith("b c")
    found = made.translate(TEXTS, prefix=["a", "b", "c", "d", "e"])
    assert [text[:1] for text in found] == ["a", "", "c", "", "e"]
    assert made.translate(TEXTS, prefix="") == made.translate(TEXTS)
    with pytest.raises(InputError, match="2 prefixes were given for 5 texts"):
        made.translate(TEXTS, prefix=["a", "b"])


def test_too_long(tokenizer):
    made = translator(tokenizer)
    assert made.translate("a " * 11)
    with pytest.raises(InputError, match="text 2: the text has 12 tokens, the model reads at most"):
        made.translate(["a", "a " * 12])
    with pytest.raises(InputError, match="news:7: the text"):
        made.ranked(["a", "a " * 12], origins=["news:6", "news:7"])


def test_outputs_end_where_the_model_does(tokenizer):
    for text in translator(tokenizer).translate(["a b c d e a b c d e"], max_length=500):
        assert len(text.split()) <= 12


def test_look_inputs(tokenizer):
    found = translator(tokenizer).look_inputs("a b", target="c")
    assert found["inputs"]["source_ids"].shape == (1, 3)
    assert found["inputs"]["target_ids"].shape == (1, 2)
    assert found["tokens"] == {"encoder": ["a", "b", "</s>"], "decoder": ["<s>", "c"]}
    assert (found["predicts"], found["target"]) == (["c", "</s>"], "c")
    free = translator(tokenizer).look_inputs("a b")
    assert free["target"] == translator(tokenizer).translate("a b")
    with pytest.raises(InputError, match="empty text"):
        translator(tokenizer).look_inputs(" ", target="a")
    with pytest.raises(InputError, match="its target: the text has 12 tokens"):
        translator(tokenizer).look_inputs("a", target="a " * 12)
