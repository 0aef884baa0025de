"""Turns as tokens, and the door that answers: what is read, what is forgotten, what is refused."""

import json

import pytest
import torch

from regard.data import Turn, train_tokenizer
from regard.decoding import DecodingSpec
from regard.errors import DataError, InputError, RecipeError, RunError
from regard.models import GPT, GPTConfig
from regard.tasks.chat import Chat
from regard.tasks.turns import USUAL, Counted, Roles, Script

ROLES = Roles(USUAL)
TURNS = [Turn("user", "ab"), Turn("assistant", "c"), Turn("user", "<|user|>")]
JSON = json.dumps(TURNS)
LONGEST = 40


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        "chars", ["abcdefghijklmnopqrstuvwxyz 0123456789<|>"], extra=tuple(USUAL.values())
    )


@pytest.fixture(scope="module")
def chat(tokenizer):
    torch.manual_seed(3)
    sizes = {"d_model": 16, "num_layers": 1, "layer.feed_forward.d_ff": 24}
    config = GPTConfig.preset(
        "nano-cpu", vocab_size=tokenizer.vocab_size, overrides=sizes | {"max_positions": LONGEST}
    )
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        model.head.weight[tokenizer.end_id] = 0.0
    return Chat(model, tokenizer, DecodingSpec(strategy="greedy"), ROLES)


def test_turns_as_tokens(tokenizer):
    script = Script(ROLES, tokenizer)
    user, assistant = (tokenizer.id_of(USUAL[role]) for role in ("user", "assistant"))
    text = tokenizer.encode
    wanted = [user, *text("ab"), 2, assistant, *text("c"), 2, user, *text("<|user|>"), 2]
    assert script.ids(TURNS) == wanted
    assert script.encode_batch([JSON, JSON]) == [wanted, wanted]
    counted = [0] * 4 + [0, 1, 1] + [0] * 10
    assert Counted(script).encode_batch([JSON]) == [counted]
    assert script.special_ids == {user, assistant}
    others = Script(Roles(USUAL, "user"), tokenizer)
    assert others.fingerprint != script.fingerprint
    assert Counted(others).fingerprint != Counted(script).fingerprint


def test_a_tokenizer_without_the_markers_reads_them_as_text():
    tokenizer = train_tokenizer("bytes", ["a"])
    script = Script(ROLES, tokenizer)
    assert script.opening == tokenizer.encode("<|assistant|>")
    assert script.special_ids == set()
    # A word of the text that is spelled so is no special entry either.
    words = train_tokenizer("words", ["<|user|> a <|assistant|>"])
    assert Script(ROLES, words).special_ids == set()


def test_the_table_is_kept(tmp_path):
    made = Roles({"A": "<a>", "B": "<b>", "C": "<c>"}, "B")
    assert made.asks == "A"
    made.save(tmp_path)
    assert Roles.load(tmp_path) == made
    path = tmp_path / "dialogue.json"
    for text, words in (("{", "damaged"), ('{"format": 9}', "newer regard"), ("[]", "damaged")):
        path.write_text(text)
        with pytest.raises(RunError, match=words):
            Roles.load(tmp_path)
    path.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        Roles.load(tmp_path)


@pytest.mark.parametrize(
    ("markers", "answers", "words"),
    [
        ({"assistant": "<a>"}, "assistant", "two roles or more"),
        ({"user": "<a>", "assistant": "<a>"}, "assistant", "a marker of its own"),
        ({"user": " ", "assistant": "<a>"}, "assistant", "marker is empty"),
        ({"user": "<u>", "system": "<a>"}, "assistant", "'assistant' is none of the roles"),
    ],
)
def test_tables_that_cannot_be(markers, answers, words):
    with pytest.raises(RecipeError, match=words):
        Roles(markers, answers)


def read_by(chat, call):
    """The ids that the model is given first."""
    seen, begin = [], chat._begin
    chat._begin = lambda ids, *rest: seen.append(list(ids)) or begin(ids, *rest)
    try:
        return call(), seen
    finally:
        del chat._begin


def test_an_answer(chat):
    text, (ids,) = read_by(chat, lambda: chat.chat("ab", max_new_tokens=5))
    user, assistant = (chat.tokenizer.id_of(USUAL[role]) for role in ("user", "assistant"))
    assert ids == [2, user, *chat.tokenizer.encode("ab"), 2, assistant]
    # The same from the model itself, which never writes markers.
    history, made = list(ids), []
    for _ in range(5):
        with torch.no_grad():
            logits = chat.model(torch.tensor([history]))[0, -1]
        logits[[0, 1, user, assistant]] = -torch.inf
        token = int(logits.argmax())
        if token == 2:
            break
        history.append(token)
        made.append(token)
    assert text == chat.tokenizer.decode(made)
    assert "".join(chat.chat("ab", max_new_tokens=5, stream=True)) == text
    assert chat.chat([{"role": "user", "content": "ab"}], max_new_tokens=5) == text
    assert chat.chat([("user", "ab")], max_new_tokens=5) == text
    found = chat.chat("ab", max_new_tokens=3, beam=3, nbest=2)
    assert found[0].score >= found[1].score


def test_an_answer_ends_where_the_model_is_full(chat):
    text, seen = read_by(chat, lambda: chat.chat("a" * 30, max_new_tokens=100))
    assert len(seen) == 1
    assert len(chat.tokenizer.encode(text)) <= LONGEST - len(seen[0])


def test_the_oldest_turns_leave(chat):
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "fourteen")]
    assert chat.within([*turns, ("user", "5")], max_new_tokens=1)[0] == ("user", "one")
    # 30 are for turns, and an answer does not stay without its question.
    kept = chat.within([*turns, ("user", "55")], max_new_tokens=100)
    assert kept == [("user", "three"), ("assistant", "fourteen"), ("user", "55")]
    _, (ids,) = read_by(chat, lambda: chat.chat([*turns, ("user", "55")], max_new_tokens=100))
    assert ids == chat._asked(kept)
    assert len(chat.within([("user", "a" * 35)], max_new_tokens=100)) == 1  # alone it may take all


def test_refusals(chat):
    with pytest.raises(InputError, match="the turn has 38 tokens, the model reads 40"):
        chat.chat("a" * 36, max_new_tokens=1)
    with pytest.raises(InputError, match="the last turn is an answer already"):
        chat.chat([("user", "a"), ("assistant", "b")])
    with pytest.raises(DataError, match="unknown role 'system'"):
        chat.chat([("system", "a")])
    with pytest.raises(DataError, match="is empty"):
        chat.chat("  ")
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        chat.chat("a", max_new_tokens=0)


def test_what_look_reads(chat):
    found = chat.look_inputs("ab", "xy")
    assert found["tokens"]["decoder"] == [
        "</s>",
        "<|user|>",
        "a",
        "b",
        "</s>",
        "<|assistant|>",
        "x",
    ]
    assert found["predicts"][-2:] == ["x", "y"]
    assert (found["labels"] != -100).sum() == 2
    assert chat.look_inputs("ab")["target"] == chat.chat("ab", max_new_tokens=12)
