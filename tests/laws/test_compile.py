"""Law: forward and step compile to one graph, and few of them serve every length."""

import pytest
import torch
from torch.compiler import reset

from regard import registry
from regard.nn import CACHES, kernels
from regard.objectives import NextToken

from ._cases import Case, families

pytestmark = pytest.mark.slow

LENGTHS = (5, 7, 9, 12, 6)
MOST_GRAPHS = 3
"""The first and two recompilations."""


class Compiled:
    """A function as whole graphs, counted."""

    def __init__(self, function, backend="eager"):
        reset()
        self.graphs = 0
        self.backend = backend
        self.function = torch.compile(function, fullgraph=True, backend=self.count)

    def count(self, graph, inputs):
        self.graphs += 1
        if self.backend == "eager":
            return graph.forward
        from torch._inductor.compile_fx import compile_fx

        return compile_fx(graph, inputs)

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


@pytest.mark.filterwarnings("default")  # torch's own compiler warns
@pytest.mark.parametrize("kernel", registry.names("kernels"))
@pytest.mark.parametrize("positions", registry.names("positions"))
@pytest.mark.parametrize("name", families())
@torch.no_grad()
def test_forward_is_one_graph(name, positions, kernel):
    case = Case(registry.family(name), (("positions", positions),), kernel)
    model = case.model(torch.float32)
    with kernels.use(kernel):
        compiled = Compiled(model)
        for length in LENGTHS:
            example = case.masked(3, length)
            torch.testing.assert_close(real(compiled(**example)), real(model(**example)))
        assert compiled.graphs <= MOST_GRAPHS


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", families())
def test_training_is_one_graph(name):
    case = Case(registry.family(name), (), "packed")
    model = case.model(torch.float32, **dict.fromkeys(case.dropouts, 0.0)).train()
    with kernels.use("packed"):
        compiled = Compiled(model)
        for length in LENGTHS:
            example = case.masked(3, length)
            expected, found = (
                torch.autograd.grad(real(made).square().sum(), model.parameters())
                for made in (model(**example), compiled(**example))
            )
            for ours, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
        assert compiled.graphs <= MOST_GRAPHS


@pytest.mark.filterwarnings("default")
def test_a_loss_is_one_graph():
    case = Case(registry.family("gpt"), (), "packed")
    model, objective = case.model(torch.float32), NextToken()

    def loss(batch):
        return objective(model, batch)["loss"].sum

    compiled = Compiled(loss)
    for length in LENGTHS:
        batch = {"ids": case.example(3, length)["ids"]}
        expected, found = (
            torch.autograd.grad(made, model.parameters()) for made in (loss(batch), compiled(batch))
        )
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert compiled.graphs <= MOST_GRAPHS


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("kernel", registry.names("kernels"))
@pytest.mark.parametrize("name", families("cache"))
@torch.no_grad()
def test_step_is_one_graph(name, kernel, cache):
    steps_agree(Case(registry.family(name), (), kernel), cache, "eager")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", families())
@torch.no_grad()
def test_the_default_compiler_agrees(name):
    case = Case(registry.family(name), (), "packed")
    model = case.model(torch.float32)
    with kernels.use("packed"):
        compiled = Compiled(model, "inductor")
        for length in LENGTHS:
            example = case.masked(3, length)
            made, truth = real(compiled(**example)), real(model(**example))
            torch.testing.assert_close(made, truth, rtol=1e-4, atol=1e-5)
    if "cache" in case.family.can:
        steps_agree(case, "shared", "inductor")


def real(made):
    """Without the two places of padding at the end, whose outputs are anything."""
    return made[:, :-2] if made.ndim > 2 else made


def steps_agree(case, cache, backend):
    model = case.model(torch.float32)
    example = case.masked(3, 6)
    start = {name: example[name] for name in example if name.startswith("source_")}
    settings = {**(start or {"sentences": 3}), "width": 2, "cache": cache}
    with kernels.use(case.kernel):
        compiled = Compiled(model.step, backend)
        ours, theirs = (model.start(**settings) for _ in range(2))
        for _ in range(7):
            tokens = torch.randint(int(example[case.causal_input].max()), (6, 1))
            made, truth = compiled(tokens, ours), model.step(tokens, theirs)
            torch.testing.assert_close(made, truth, rtol=1e-4, atol=1e-5)
            parents = torch.tensor([1, 0, 2, 2, 5, 4])
            ours.advance(parents)
            theirs.advance(parents)
        assert compiled.graphs <= MOST_GRAPHS
