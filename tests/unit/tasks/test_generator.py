"""Writing on: streamed or at once, past the model's longest text, by every strategy."""

import pytest
import torch

from regard.data import train_tokenizer
from regard.decoding import DecodingSpec
from regard.errors import InputError, RegardError
from regard.models import GPT, GPTConfig
from regard.tasks.generator import Generator


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(3)
    tokenizer = train_tokenizer("bytes", ["äb c"])
    sizes = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, "max_positions": 12}
    config = GPTConfig.preset("nano-cpu", vocab_size=tokenizer.vocab_size, overrides=sizes)
    model = GPT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        model.head.weight[tokenizer.end_id] = 0.0
    return Generator(model, tokenizer, DecodingSpec(strategy="greedy"))


def greedy(generator, prompt, count):
    """Token by token, each from the whole text that the model is given."""
    ids = generator.tokenizer.encode(prompt) or [generator.tokenizer.end_id]
    history, made = list(ids), []
    special = {generator.tokenizer.start_id, generator.tokenizer.pad_id}
    for _ in range(count):
        if len(history) == 12:
            history = history[-6:]
        with torch.no_grad():
            logits = generator.model(torch.tensor([history]))[0, -1]
        logits[list(special)] = -torch.inf
        token = int(logits.argmax())
        if token == generator.tokenizer.end_id:
            break
        history.append(token)
        made.append(token)
    return generator.tokenizer.decode(made)


@pytest.mark.parametrize("prompt", ["", "ab", "abcdefghijk"])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_greedy_is_the_likeliest_token_each_time(generator, prompt, count):
    text = generator.generate(prompt, max_new_tokens=count)
    assert text == prompt + greedy(generator, prompt, count)
    pieces = generator.generate(prompt, max_new_tokens=count, stream=True)
    assert prompt + "".join(pieces) == text


def test_a_sample_follows_its_seed(generator):
    texts = {
        seed: generator.generate("a", strategy="sample", seed=seed, max_new_tokens=30)
        for seed in (1, 2)
    }
    assert texts[1] != texts[2]
    again = generator.generate("a", strategy="sample", seed=1, max_new_tokens=30)
    assert again == texts[1]
    assert generator.generate("a", top_k=1, max_new_tokens=5) == generator.generate(
        "a", max_new_tokens=5
    )


def test_a_beam_gives_the_likeliest_text(generator):
    best, other = generator.generate("ab", beam=3, nbest=2, max_new_tokens=4)
    assert best.text.startswith("ab")
    assert best.score >= other.score
    assert generator.generate("ab", beam=3, max_new_tokens=4) == best.text
    with pytest.raises(RegardError, match="only one greedy or sampled output can be streamed"):
        generator.generate("ab", beam=3, stream=True)


def test_refusals(generator):
    with pytest.raises(InputError, match="the prompt has 12 tokens, the model reads 12"):
        generator.generate("a" * 12)
    with pytest.raises(InputError, match="max_new_tokens is 0"):
        generator.generate("a", max_new_tokens=0)
