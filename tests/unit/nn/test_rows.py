"""States without padding: where the tokens stand, and a model that leaves padding out."""

import pytest
import torch

from regard.models import Transformer, TransformerConfig
from regard.nn import Causal, Full, Padding, backend, kernels, rows
from regard.nn.linear import _Columns
from regard.nn.rows import find_rows

REAL = torch.tensor([[1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 0, 0]]).bool()


def test_where_the_tokens_stand():
    found = find_rows(Padding(REAL), torch.zeros(3, 4, 2))
    assert found.slots.tolist() == [0, 1, 5, 6, 7, 8]
    states = torch.randn(3, 4, 2)
    packed = found.pack(states)
    assert packed.shape == (1, 6, 2)
    assert torch.equal(packed[0], states[REAL])
    assert torch.equal(found.restore(packed), states * REAL[..., None])
    positions = torch.arange(4)[None]
    assert found.pack_positions(positions).tolist() == [[0, 1, 1, 2, 3, 0]]


def fives(monkeypatch):
    """Products want a multiple of five rows."""
    monkeypatch.setattr(backend, "rounded", lambda rows, dtype: -(-rows // 5) * 5)


def test_more_rows_than_tokens(monkeypatch):
    fives(monkeypatch)
    found = find_rows(Padding(REAL), torch.zeros(3, 4, 2))
    assert found.slots.tolist() == [0, 1, 5, 6, 7, 8, 0, 0, 0, 0]
    states = torch.randn(3, 4, 2)
    packed = found.pack(states)
    assert torch.equal(packed[0, :6], states[REAL])
    packed[0, 6:] = torch.nan
    assert torch.equal(found.restore(packed), states * REAL[..., None])
    assert find_rows(Padding(torch.ones_like(REAL)), states) is not None  # 12 are made 15
    assert find_rows(Padding(torch.ones(2, 5).bool()), torch.zeros(2, 5, 2)) is None


@pytest.mark.parametrize("awkward", [False, True])
@pytest.mark.parametrize("door", ["pack", "restore"])
def test_gradients(monkeypatch, door, awkward):
    if awkward:
        fives(monkeypatch)
    found = find_rows(Padding(REAL), torch.zeros(3, 4, 2))
    states = torch.randn(3, 4, 2) if door == "pack" else torch.randn(1, len(found.slots), 2)
    states = states.double().requires_grad_()
    seen = 1
    if door == "pack":  # of what nobody reads, nothing comes back
        seen = (torch.arange(len(found.slots)) < found.count)[:, None]
    assert torch.autograd.gradcheck(lambda x: getattr(found, door)(x) * seen, states)


@pytest.mark.parametrize("awkward", [False, True])
@pytest.mark.parametrize("widths", [(2, 2, 2), (3, 3), (2,), (2, 2, 5)])
@pytest.mark.parametrize("source", ["columns", "apart"])
def test_heads(monkeypatch, awkward, widths, source):
    """They stand where spreading and splitting by hand puts them, and merge to what they were."""
    if awkward:
        fives(monkeypatch)
    found = find_rows(Padding(REAL), torch.zeros(3, 4, 2))
    counts = (4, 2, 2)[: len(widths)]
    sizes = [count * width for count, width in zip(counts, widths, strict=True)]
    joint = torch.randn(1, len(found.slots), sum(sizes), dtype=torch.float64, requires_grad=True)

    def parts(joint):
        split = _Columns.apply(joint, sizes)
        return split if source == "columns" else [part * 1.0 for part in split]

    made = found.heads(parts(joint), counts)
    for heads, part, count in zip(made, parts(joint), counts, strict=True):
        spread = torch.zeros(3, 4, part.shape[-1], dtype=torch.float64)
        spread[REAL] = part[0, : found.count].detach()
        by_hand = spread.unflatten(-1, (count, -1)).transpose(1, 2)
        assert heads.is_contiguous()
        real = REAL[:, None, :, None].expand_as(heads)
        assert torch.equal(heads[real], by_hand[real])
        assert torch.equal(found.merge(heads)[0, : found.count], part[0, : found.count])
        assert torch.equal(found.merge(by_hand)[0, : found.count], part[0, : found.count])

    # What padding holds is nobody's: attention gives it no gradient, and takes none from it.
    def through(joint):
        heads = [one * REAL[:, None, :, None] for one in found.heads(parts(joint), counts)]
        return torch.cat([found.merge(one)[..., : found.count, :].flatten() for one in heads])

    assert torch.autograd.gradcheck(through, joint)


def test_heads_that_are_columns_are_not_joined_by_a_copy(monkeypatch):
    found = find_rows(Padding(REAL), torch.zeros(3, 4, 2))
    parts = torch.randn(1, len(found.slots), 12).split(4, dim=-1)
    found.places((2, 2, 2))
    monkeypatch.delattr(torch, "cat")
    assert [one.shape for one in found.heads(parts, (2, 2, 2))] == [(3, 2, 4, 2)] * 3


@pytest.mark.parametrize("positions", ["none", "rotary"])
def test_heads_before_they_are_turned_are_not_kept(positions):
    """Of queries, keys and values alone the backward pass needs what attention saw."""
    overrides = {"num_layers": 1, "layer.dropout": 0.0, "embedding.dropout": 0.0}
    config = TransformerConfig.preset(
        "tiny", vocab_size=23, overrides={**overrides, "positions": positions}
    )
    encoder = Transformer(config).encoder.train()
    attention = encoder.layers[0].self_attention.sublayer
    states, kept = torch.randn(3, 4, config.d_model), {}

    def keep(x):
        if x.shape[-1] == attention.d_key:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        encoder(states, mask=Padding(REAL))
    assert sum(kept.values()) == 3 * states.nbytes


def test_gradients_of_heads_where_nothing_stands(monkeypatch):
    fives(monkeypatch)
    found = find_rows(Padding(REAL), torch.zeros(3, 4, 2))
    states = torch.randn(1, len(found.slots), 6, requires_grad=True)
    (heads,) = found.heads([states], [2])
    (gradient,) = torch.autograd.grad(heads, states, torch.full_like(heads, 2.0))
    assert (gradient[0, : found.count] == 2).all()
    assert (gradient[0, found.count :] == 0).all()
    mixed = torch.randn(3, 2, 4, 3, requires_grad=True)
    up = torch.ones(1, len(found.slots), 6)
    (gradient,) = torch.autograd.grad(found.merge(mixed), mixed, up)
    assert torch.equal(gradient, REAL[:, None, :, None].expand_as(gradient).float())


def test_only_where_it_pays():
    states = torch.zeros(3, 4, 2)
    assert find_rows(Full(), states) is None
    assert find_rows(Causal() & Padding(REAL), states) is None
    assert find_rows(Padding(torch.zeros_like(REAL)), states) is None
    assert find_rows(Padding(torch.ones_like(REAL)), states) is None
    assert find_rows(Padding(REAL[:1]), states) is None
    assert find_rows(Padding(REAL.to("meta")), states.to("meta")) is None
    few = torch.ones(1, 16).bool()
    few[0, -1] = False
    assert find_rows(Padding(few), torch.zeros(1, 16, 2)) is None
    few[0, -2] = False
    assert find_rows(Padding(few), torch.zeros(1, 16, 2)) is not None
    with kernels.watch(lambda module, weights: None):
        assert find_rows(Padding(REAL), states) is None


def test_not_in_a_compiled_graph(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert find_rows(Padding(REAL), torch.zeros(3, 4, 2)) is None


VARIANTS = {
    "as it is": {},
    "pre-norm": {"layer.norm_placement": "pre"},
    "learned positions": {"positions": "learned"},
    "shared heads": {"layer.attention.num_kv_heads": 2, "layer.attention.d_value": 5},
}


@pytest.mark.parametrize("kernel", ["dense", "packed", "fused"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_gives_the_same_with_and_without_padding(
    monkeypatch, kernel, variant, checkpointing
):
    torch.manual_seed(0)
    overrides = {
        "d_model": 16,
        "num_layers": 2,
        "layer.feed_forward.d_ff": 24,
        "layer.dropout": 0.0,
        "embedding.dropout": 0.0,
        "max_positions": 32,
    }
    config = TransformerConfig.preset(
        "tiny", vocab_size=23, overrides=overrides | VARIANTS[variant]
    )
    model = Transformer(config).double().train()
    for stack in (model.encoder, model.decoder):
        stack.gradient_checkpointing = checkpointing
    source, target = torch.randint(23, (3, 9)), torch.randint(23, (3, 7))
    source_real = torch.arange(9) < torch.tensor([[9], [2], [4]])
    target_real = torch.arange(7) < torch.tensor([[3], [7], [1]])
    results, packed = [], []
    monkeypatch.setattr(rows, "_take", lambda *a, take=rows._take: packed.append(1) or take(*a))
    for least, awkward in ((0.0, False), (0.0, True), (2.0, False)):
        monkeypatch.setattr(rows, "LEAST_PADDING", least)
        with monkeypatch.context() as patch:
            if awkward:
                fives(patch)
            before = len(packed)
            with kernels.use(kernel):
                states = model.features(
                    source, target, source_mask=source_real, target_mask=target_real
                )
                kept = states[target_real]
                gradients = torch.autograd.grad(
                    kept.square().sum(), list(model.encoder.parameters())
                )
            results.append([kept, *gradients])
            assert (len(packed) > before) == (least == 0.0)
    for without, rounded, padded in zip(*results, strict=True):
        torch.testing.assert_close(without, padded, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(rounded, padded, rtol=1e-10, atol=1e-10)
