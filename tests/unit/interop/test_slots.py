"""Slots: what fills them, what is refused by name, and that nothing changes on the way."""

import pytest
import torch
from torch import nn

from regard.errors import CheckpointError
from regard.interop.slots import Entry, empty, fill, matches
from regard.nn import Linear, SplitLinear

TABLE = [
    Entry("layers.{}.one.weight", "h.{}.first.w", transpose=True),
    Entry("layers.{}.one.bias", "h.{}.first.b"),
    Entry("layers.{}.two.weight[a]", "h.{}.a"),
    Entry("layers.{}.two.weight[b]", "h.{}.b"),
    Entry("layers.{}.two.weight", "h.{}.joint"),
]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.one = Linear(2, 3)
        self.two = SplitLinear(2, {"a": 1, "b": 4}, bias=False)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))


def file(**changes):
    made = {}
    for i in range(2):
        made[f"h.{i}.first.w"] = torch.randn(2, 3)
        made[f"h.{i}.first.b"] = torch.randn(3)
        made[f"h.{i}.a"], made[f"h.{i}.b"] = torch.randn(1, 2), torch.randn(4, 2)
    made |= {name.replace("_", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in made.items() if tensor is not None}


def test_every_slot_is_filled_and_comes_back_bit_by_bit():
    tensors = {name: tensor.bfloat16() for name, tensor in file().items()}
    held = fill(Model(), TABLE, tensors, where="x")
    assert held.keys() == dict(Model().named_parameters()).keys()
    assert all(tensor.dtype == torch.bfloat16 for tensor in held.values())
    assert torch.equal(held["layers.1.one.weight"], tensors["h.1.first.w"].t())
    assert torch.equal(held["layers.0.two.weight"][1:], tensors["h.0.b"])
    # whole names come before parts: a table with both writes the whole
    parts = [entry for entry in TABLE if entry.theirs != "h.{}.joint"]
    back = empty(Model(), parts, held)
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in back)
    joint = empty(Model(), TABLE, held)
    assert torch.equal(joint["h.0.joint"], held["layers.0.two.weight"])
    assert "h.0.a" not in joint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"h_1_first_b": None}, "layers.1.one.bias is left empty"),
        ({"h_1_a": None}, r"layers.1.two.weight\[a\] is left empty"),
        ({"h_9_a": torch.ones(1, 2)}, "h.9.a has no place"),
        ({"other": torch.ones(1)}, "other has no place"),
        ({"h_0_b": torch.ones(2, 4)}, r"h.0.b has shape \[2, 4\], its place \[4, 2\]"),
        ({"h_0_first_w": torch.ones(3, 2)}, r"shape \[3, 2\], its place \[3, 2\]|its place"),
        ({"h_0_joint": torch.ones(5, 2)}, "layers.0.two.weight is filled twice"),
    ],
)
def test_what_does_not_fit_is_named(changes, words):
    with pytest.raises(CheckpointError, match=words):
        fill(Model(), TABLE, file(**changes), where="dir")


def test_a_parameter_without_a_name_is_refused():
    with pytest.raises(CheckpointError, match=r"no name for layers\.0\.one\.weight"):
        empty(Model(), TABLE[1:], dict(Model().named_parameters()))


def test_patterns():
    assert matches("h.{}.attn.bias", "h.11.attn.bias")
    assert not matches("h.{}.attn.bias", "h.x.attn.bias")
    assert not matches("h.{}.a", "h.1.ab")
