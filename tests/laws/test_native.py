"""Laws: products of 8-bit integers give nearly the same, and C++ gives what the parts give."""

import pytest
import torch
from torch import nn

from regard import registry
from regard.nn import native
from regard.nn.cache import CACHES
from regard.nn.linear import Linear, SplitLinear
from regard.nn.masks import Full
from regard.nn.native import stack as native_stack
from regard.nn.packing import pack
from regard.nn.positions import Alibi, Buckets, Grid, Rotary
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


@pytest.mark.parametrize(
    ("how", "in_cpp"),
    [
        (quantize, True),
        (native_stack.attach, True),
        (native_stack.attach, False),
        (quantize, False),
    ],
)
@pytest.mark.parametrize("cache", sorted(CACHES))
@pytest.mark.parametrize("width", [1, 3])
@law("cache", pairs=False)
@torch.no_grad()
def test_a_step_by_one_call_is_the_step_by_its_parts(case, width, cache, how, in_cpp, monkeypatch):
    """Of C++; or by few calls of torch."""
    if in_cpp and not native.loaded():
        pytest.skip("there are no operators in C++ here")
    monkeypatch.setattr(native, "_loaded", in_cpp)
    monkeypatch.setattr(native, "load", native.loaded)
    model = case.model(torch.float32)
    how(model)
    stack = stacks_of(model)[-1]
    known = is_known(stack)
    assert (stack.fused is not None) == known
    made, by_one = zip(*steps(case, model, width, cache), strict=True)
    assert by_one == ((None, *[True] * 5) if known else (None,) * 6)  # the first is a prefix
    stack.fused = None
    for one, (other, _) in zip(made, steps(case, model, width, cache), strict=True):
        same(one, other, how)
    assert stack.cache_dtype == (torch.bfloat16 if how is quantize else None)
    if how is quantize:
        stack.cache_dtype = None
        plain = [other for other, _ in steps(case, model, width, cache)]
        assert not torch.equal(made[-1], plain[-1])
        for one, other in zip(made, plain, strict=True):
            error = nn.functional.mse_loss(one, other)
            assert float(error) < NEAR**2 * float(other.square().mean())


@pytest.mark.parametrize("how", [quantize, pack])
@law("cache", pairs=False)
@torch.no_grad()
def test_threads_that_go_apart_change_nothing(case, how):
    """Each thread takes its own sentences through all layers: in int8, and of small weights."""
    if not native.loaded():
        pytest.skip("there are no operators in C++ here")
    model = case.model(torch.float32)
    how(model)
    made = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made[threads] = [logits for logits, _ in steps(case, model, 1, "shared", sentences=40)]
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
    made = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made[threads] = [logits for logits, _ in steps(case, model, 1, "shared", sentences)]
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
    stacks = stacks_of(model)
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
    found, texts = [], native_stack.FusedStack.texts

    def noted(self, *arguments):
        made = texts(self, *arguments)
        if made is not None:
            found.append(self._stack)
        return made

    monkeypatch.setattr(native_stack.FusedStack, "texts", noted)
    return found


def stacks_of(model):
    return [module for module in model.modules() if isinstance(module, Stack)]


def is_known(stack):
    """Whether one call should do a stack; of the kinds of parts it lacks positions alone."""
    scheme = stack.positions
    odd = isinstance(scheme, Rotary) and scheme.options.layout == "interleaved"
    odd = odd or (isinstance(scheme, Grid) and scheme.options.every_layer)
    return type(scheme) in native_stack.POSITIONS and not odd


def reads(stack):
    """Whether one call should read its texts: nothing is added to scores, and no memory read."""
    plain = type(stack.pattern) is Full and not isinstance(stack.positions, Alibi | Buckets)
    return is_known(stack) and plain and stack.layers[0].cross_attention is None


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
