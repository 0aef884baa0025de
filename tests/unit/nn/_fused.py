"""A small model whose stack may run by one call of C++, and what changes it."""

import torch

from regard.models import GPT, GPTConfig
from regard.models.transformer import Transformer, TransformerConfig
from regard.nn.adapters import LoRA, add_adapters

BUCKETS = {"kind": "buckets", "num_buckets": 8, "max_distance": 12}


def tiny(**more):
    """A GPT of two layers, 16 wide."""
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_layers": 2, "layer.feed_forward.d_ff": 24, **more}
    return GPT(GPTConfig.preset("nano-cpu", vocab_size=50, overrides=sizes)).eval()


TOKENS = torch.tensor([[3], [4]])


def made(model):
    """The logits of a step, and whether one call made it."""
    state = model.start(len(TOKENS))
    logits = model.step(TOKENS, state)
    return logits, bool(state.cache.fused)


def change_in_place(model):
    model.decoder.layers[0].feed_forward.sublayer.expand.weight.mul_(3)


def change_a_norm(model):
    model.decoder.layers[1].self_attention.norm.weight.mul_(3)


def exchange_a_weight(model):
    old = model.decoder.layers[0].feed_forward.sublayer.expand
    old.weight = torch.nn.Parameter(old.weight * 3)


def exchange_data(model):
    old = model.decoder.layers[1].feed_forward.norm
    old.weight.data = old.weight.data * 3


def exchange_a_module(model):
    other = tiny()
    for parameter in other.parameters():
        parameter.mul_(3)
    model.decoder.layers[1].feed_forward = other.decoder.layers[1].feed_forward


def load_other_weights(model):
    model.load_state_dict({name: 2 * value for name, value in model.state_dict().items()})


def adapt(model):
    add_adapters(model, LoRA, LoRA.Options(rank=2))
    for name, parameter in model.named_parameters():
        if "adapters" in name:
            parameter.normal_()


def translator():
    """A Transformer."""
    torch.manual_seed(0)
    return Transformer(TransformerConfig.preset("tiny", vocab_size=50)).eval()


def noticed(how, change):
    """Check that a changed model's step is that of its new weights; whether one call made it."""
    model = tiny()
    how(model)
    before, _ = made(model)
    change(model)
    logits, by_one = made(model)
    assert not torch.allclose(logits, before, atol=1e-4)
    torch.testing.assert_close(logits, model(TOKENS)[:, -1], rtol=1e-4, atol=1e-5)
    return by_one
