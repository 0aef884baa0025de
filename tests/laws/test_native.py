"""Laws: products of 8-bit integers give nearly the same, and C++ gives what the parts give."""

import pytest
import torch
from torch import nn

from regard import registry
from regard.nn import native
from regard.nn.cache import CACHES
from regard.nn.linear import Linear, SplitLinear
from regard.nn.native import stack as native_stack
from regard.nn.packing import pack
from regard.nn.quantized import QuantizedLinear, quantize
from regard.nn.stack import Stack

from ._cases import law, make_case, real_part

NEAR = 0.1
"""The largest part of an answer that may be wrong: widths of 16 round coarsely."""


@law()
@torch.no_grad()
def test_a_quantized_model_answers_nearly_the_same(case):
    model, example = case.model(torch.float32), case.example()
    expected = case.run(model, example)
    quantize(model)
    assert any(isinstance(module, QuantizedLinear) for module in model.modules())
    assert not any(isinstance(module, Linear | SplitLinear) for module in model.modules())
    made = case.run(model, example)
    assert not torch.equal(made, expected)
    assert float(nn.functional.mse_loss(made, expected)) < NEAR**2 * float(expected.square().mean())


@pytest.mark.parametrize("how", [quantize, pack, native_stack.attach])
@pytest.mark.parametrize("cache", sorted(CACHES))
@pytest.mark.parametrize("width", [1, 3])
@law("cache", pairs=False)
@torch.no_grad()
def test_a_step_by_one_call_is_the_step_by_its_parts(case, width, cache, how):
    if not native.loaded():
        pytest.skip("there are no operators in C++ here")
    model = case.model(torch.float32)
    how(model)
    stack = [module for module in model.modules() if isinstance(module, Stack)][-1]
    known = type(stack.positions) in native_stack.POSITIONS and "interleaved" not in repr(case)
    assert (stack.fused is not None) == known
    made, by_one = zip(*steps(case, model, width, cache), strict=True)
    assert by_one == ((None, *[True] * 5) if known else (None,) * 6)  # the first is a prefix
    stack.fused = ByParts(stack.fused)
    for one, (other, _) in zip(made, steps(case, model, width, cache), strict=True):
        same(one, other, how)
    if how is quantize and known:  # what is remembered is held in bfloat16
        stack.fused.cache_dtype = None
        plain = [other for other, _ in steps(case, model, width, cache)]
        assert not torch.equal(made[-1], plain[-1])
        for one, other in zip(made, plain, strict=True):
            error = nn.functional.mse_loss(one, other)
            assert float(error) < NEAR**2 * float(other.square().mean())


class ByParts:
    """Does nothing at once; what is remembered is held as the other does."""

    def __init__(self, other):
        self.cache_dtype = None if other is None else other.cache_dtype

    def logits(self, *_):
        pass

    def __call__(self, *_):
        pass


@pytest.mark.parametrize("how", [quantize, pack])
@law("cache", pairs=False)
@torch.no_grad()
def test_threads_that_go_apart_change_nothing(case, how):
    """Each thread takes its own sentences through all layers: in int8, and of small weights."""
    if not native.loaded():
        pytest.skip("there are no operators in C++ here")
    model = case.model(torch.float32)
    how(model)
    made, before = {}, torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made[threads] = [logits for logits, _ in steps(case, model, 1, "shared", sentences=40)]
    torch.set_num_threads(before)
    for one, other in zip(made[1], made[2], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("how", [pack, native_stack.attach])
@pytest.mark.parametrize("sentences", [5, 60])  # together, and apart
@torch.no_grad()
def test_threads_and_large_weights(how, sentences):
    if not native.loaded():
        pytest.skip("there are no operators in C++ here")
    family = registry.family("gpt")
    case = make_case(family, {})
    model = case.model(torch.float32, d_model=512, num_layers=4)
    weights = [
        module.weight for module in model.modules() if isinstance(module, Linear | SplitLinear)
    ]
    assert sum(weight.nbytes for weight in weights) > 2**22
    how(model)
    made, before = {}, torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made[threads] = [logits for logits, _ in steps(case, model, 1, "shared", sentences)]
    torch.set_num_threads(before)
    for one, other in zip(made[1], made[2], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("how", [quantize, native_stack.attach])
@law(pairs=False)
@torch.no_grad()
def test_whole_texts_by_one_call_are_those_by_parts(case, how, served):
    if not native.loaded():
        pytest.skip("there are no operators in C++ here")
    model = case.model(torch.float32)
    how(model)
    stacks = [module for module in model.modules() if isinstance(module, Stack)]
    made, example = [], case.example()
    for inputs in (example, case.padded(example, 3)):
        del served[:]
        made.append(real(model(**inputs)))
        assert {id(one) for one in served} == {id(one) for one in stacks if reads(one)}
    for stack in stacks:
        stack.fused = None
    for one in made:
        same(one, real(model(**example)), how)


def real(made):
    """The first output of several, without padding."""
    first = made if isinstance(made, torch.Tensor) else made[0]
    return torch.stack(real_part(first, [7] * 3))


def same(one, other, how):
    """Nearly the same numbers."""
    error = (one - other).abs() / other.std()
    assert float(error.median()) < 1e-4
    # in int8 a number may fall to the other side of a half
    assert float(error.max()) < (NEAR if how is quantize else 1e-4)


@pytest.fixture
def served(monkeypatch):
    """A list of the stacks that one call reads from now on."""
    found, read = [], native_stack.FusedStack._read

    def noted(self, *arguments):
        made = read(self, *arguments)
        if made is not None:
            found.append(self._stack)
        return made

    monkeypatch.setattr(native_stack.FusedStack, "_read", noted)
    return found


def reads(stack):
    """Whether one call should: it knows the parts, nothing is added to scores, no memory."""
    crosses = stack.layers[0].cross_attention is not None
    return stack.fused is not None and stack.fused._bias is None and not crosses


def steps(case, model, width, cache, sentences=5):
    """Logits of some steps, of two tokens and of one, while beams change places and texts leave;
    and whether one call made them of the tokens, None where none could so far."""
    vocabulary = 15
    generator = torch.Generator().manual_seed(0)
    if case.family.shape == "decoder":
        state = model.start(sentences, width=width, cache=cache)
    else:
        source = torch.randint(vocabulary, (sentences, 7), generator=generator)
        lengths = torch.tensor([7, 3, 5, 1, 6]).repeat(sentences // 5)
        mask = torch.arange(7) < lengths[:, None]
        state = model.start(source, source_mask=mask, width=width, cache=cache)
    for count, staying in ((2, None), (1, None), (1, [0, 2, 3, 4]), (1, None), (2, [1]), (1, None)):
        tokens = torch.randint(vocabulary, (state.sentences * width, count), generator=generator)
        yield model.step(tokens, state), state.cache.fused_ends
        if staying is not None:
            state.keep(torch.tensor(staying))
        places = torch.randint(width, (state.sentences, width), generator=generator)
        state.advance((torch.arange(state.sentences)[:, None] * width + places).flatten())
