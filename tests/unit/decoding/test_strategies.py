"""Each way to choose a token, on distributions small enough to count."""

from __future__ import annotations

import math

import pytest
import torch

from regard.decoding import DecodingSpec, strategies

INF = float("inf")
LOGITS = torch.tensor([[0.5, 0.25, 0.15, 0.1]]).log()


def kept(logits: torch.Tensor) -> list[int]:
    return (logits[0] > -INF).nonzero().flatten().tolist()


def test_temperature_divides() -> None:
    assert torch.equal(strategies.temperature(LOGITS, 2.0), LOGITS / 2)


@pytest.mark.parametrize(
    ("k", "wanted"), [(1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k(k: int, wanted: list[int]) -> None:
    assert kept(strategies.top_k(LOGITS, k)) == wanted


def test_top_k_keeps_what_equals_the_last() -> None:
    assert kept(strategies.top_k(torch.tensor([[1.0, 0.0, 0.0, -1.0]]), 2)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("p", "wanted"),
    [(0.01, [0]), (0.49, [0]), (0.51, [0, 1]), (0.8, [0, 1, 2]), (1.0, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(p: float, wanted: list[int]) -> None:
    assert kept(strategies.top_p(LOGITS, p)) == wanted
    shuffled = strategies.top_p(LOGITS[:, [3, 1, 0, 2]], p)
    assert sorted([3, 1, 0, 2][place] for place in kept(shuffled)) == wanted


@pytest.mark.parametrize(("p", "wanted"), [(0.25, [0, 1, 2]), (0.45, [0, 1]), (1.0, [0])])
def test_min_p_is_relative_to_the_likeliest(p: float, wanted: list[int]) -> None:
    assert kept(strategies.min_p(LOGITS, p)) == wanted


def test_repetition_penalty_by_sign() -> None:
    logits = torch.tensor([[2.0, -2.0, 3.0], [2.0, -2.0, 3.0]])
    history = torch.tensor([[0, 1, 0], [2, 2, 2]])
    found = strategies.repetition_penalty(logits, history, 2.0)
    assert found.tolist() == [[1.0, -4.0, 3.0], [2.0, -2.0, 1.5]]
    assert torch.equal(strategies.repetition_penalty(logits, history[:, :0], 2.0), logits)


def test_shape_takes_them_in_order() -> None:
    spec = DecodingSpec(strategy="sample", temperature=0.5, top_k=3, top_p=0.9, min_p=0.2)
    wanted = strategies.min_p(
        strategies.top_p(strategies.top_k(strategies.temperature(LOGITS, 0.5), 3), 0.9), 0.2
    )
    assert torch.equal(strategies.shape(LOGITS, spec), wanted)


def test_greedy_takes_the_lowest_of_equals() -> None:
    assert strategies.greedy(torch.tensor([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])).tolist() == [1, 0]


def test_samples_follow_the_distribution() -> None:
    rows = 20_000
    uniforms = strategies.streams(7, list(range(rows)), 1, 1)[:, 0]
    drawn = strategies.sample(LOGITS.expand(rows, -1), uniforms)
    shares = torch.bincount(drawn, minlength=4) / rows
    for share, probability in zip(shares.tolist(), (0.5, 0.25, 0.15, 0.1), strict=True):
        deviation = math.sqrt(probability * (1 - probability) / rows)
        assert abs(share - probability) < 4 * deviation


def test_a_sample_is_never_what_has_no_probability() -> None:
    logits = torch.tensor([[-INF, 0.0, -INF, 0.0, -INF]]).expand(4, -1)
    uniforms = torch.tensor([0.0, 0.5 - 1e-12, 0.5, 1 - 1e-12], dtype=torch.float64)
    assert strategies.sample(logits, uniforms).tolist() == [1, 1, 3, 3]


def test_streams_depend_on_nothing_but_seed_sentence_sample_and_step() -> None:
    whole = strategies.streams(3, [0, 1, 2, 3], 2, 40)
    assert whole.shape == (8, 40)
    assert torch.equal(strategies.streams(3, [2], 2, 40), whole[4:6])
    assert torch.equal(strategies.streams(3, [2], 1, 17), whole[4:5, :17])
    assert len(whole.unique()) == whole.numel()
    assert not torch.equal(strategies.streams(4, [0, 1, 2, 3], 2, 40), whole)
    assert float(whole.min()) >= 0
    assert float(whole.max()) < 1


@pytest.mark.parametrize("shape", [(1, 50), (3, 17), (40, 4003), (128, 10_000), (16, 33_333)])
@pytest.mark.parametrize("k", [1, 2, 10])
def test_best_is_topk(shape: tuple[int, int], k: int) -> None:
    torch.manual_seed(0)
    for logits in (torch.randn(shape), torch.randint(-4, 4, shape).float()):
        logits[:, 3] = -INF
        values, ids = strategies.best(logits, k)
        assert torch.equal(values, logits.topk(k).values)
        assert torch.equal(logits.gather(1, ids), values)
        assert all(len(set(row)) == k for row in ids.tolist())


@pytest.mark.parametrize("shape", [(3, 40), (40, 5000)])
@pytest.mark.parametrize("k", [1, 2, 9])
def test_of_equals_the_lowest_tokens_come_first(shape: tuple[int, int], k: int) -> None:
    torch.manual_seed(0)
    logits = torch.randint(-2, 2, shape).float()
    ordered = logits.sort(dim=1, descending=True, stable=True)
    values, ids = strategies.best(logits, k)
    assert torch.equal(values, ordered.values[:, :k])
    assert torch.equal(ids, ordered.indices[:, :k])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_best_logprobs_are_those_of_log_softmax(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    logits = (torch.randn(5, 300) * 4 + 100).to(dtype)
    logits[:, 7] += 50  # barred, and most of the probability
    barred = torch.tensor([7, 0])
    ordered = strategies.forbid(logits.double().log_softmax(-1), barred).sort(
        descending=True, stable=True
    )
    values, ids = strategies.best_logprobs(logits.clone(), 6, barred)
    assert values.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(
        values.double(), ordered.values[:, :6], atol=1e-4 if dtype != torch.float64 else 1e-12
    )
    assert torch.equal(ids, ordered.indices[:, :6])
    none = torch.tensor([], dtype=torch.long)
    values, ids = strategies.best_logprobs(logits.clone(), 1, none)
    assert ids.flatten().tolist() == [7] * 5


def test_the_normalizer_does_not_overflow() -> None:
    logits = torch.tensor([[1e4, 1e4], [-1e4, -1e4 - 1]])
    found = strategies.log_normalizer_(logits.clone())
    assert torch.allclose(found, logits.logsumexp(-1))
