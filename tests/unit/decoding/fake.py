"""A small model whose next-token logits depend on each row's whole history.

A wrong `advance` or `keep`, a token fed to the wrong row or left out changes the row's number, and
with it every later logit; `logits_after` computes the truth from the tokens alone.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.decoding import Hypothesis, LengthPenalty

MODULUS = 9973
PAD, START, END = 0, 1, 2


@dataclass
class FakeState:
    """A number for each row, made of all tokens that the row was fed."""

    numbers: Tensor
    sentences: int
    width: int
    length: int = 0
    peak: int = 0

    def advance(self, parents: Tensor) -> None:
        assert parents.shape == (self.sentences * self.width,)
        own = torch.arange(len(parents)) // self.width
        assert torch.equal(parents // self.width, own), "a row went on from another sentence"
        self.numbers = self.numbers[parents]

    def keep(self, sentences: Tensor) -> None:
        assert 0 < len(sentences) <= self.sentences
        self.numbers = self.numbers.view(self.sentences, self.width)[sentences].flatten()
        self.sentences = len(sentences)


class FakeModel:
    """Logits from a random table, looked up by a hash of source and history."""

    def __init__(
        self,
        vocabulary: int = 11,
        *,
        seed: int = 0,
        end_bias: float = 0.0,
        spread: float = 1.5,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(MODULUS, vocabulary, generator=generator, dtype=dtype) * spread
        self.table[:, END] += end_bias
        self.vocabulary = vocabulary
        self.rows: list[int] = []  # of each step
        self.state: FakeState | None = None

    def start(
        self, source_ids: Tensor, *, source_mask: Tensor | None = None, width: int = 1
    ) -> FakeState:
        mask = torch.ones_like(source_ids, dtype=torch.bool) if source_mask is None else source_mask
        numbers = [
            _absorb(0, row[real].tolist()) for row, real in zip(source_ids, mask, strict=True)
        ]
        rows = torch.tensor(numbers).repeat_interleave(width)
        self.state = FakeState(rows, len(source_ids), width)
        return self.state

    def step(self, tokens: Tensor, state: FakeState) -> Tensor:
        assert tokens.shape[0] == state.sentences * state.width
        for column in tokens.unbind(1):
            state.numbers = (state.numbers * 31 + column + 7) % MODULUS
        state.length += tokens.shape[1]
        self.rows.append(len(tokens))
        return self.table[state.numbers]  # a copy, the caller's to change

    def logits_after(self, source: list[int], tokens: list[int]) -> Tensor:
        """The truth: logits after these tokens, the start token not among them."""
        return self.table[_absorb(_absorb(0, source), [START, *tokens])]


def _absorb(number: int, tokens: list[int]) -> int:
    for token in tokens:
        number = (number * 31 + token + 7) % MODULUS
    return number


def padded(sources: list[list[int]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, sources))
    ids = torch.tensor([source + [PAD] * (longest - len(source)) for source in sources])
    mask = torch.tensor([[place < len(source) for place in range(longest)] for source in sources])
    return ids, mask


def random_sources(count: int, *, seed: int = 0, vocabulary: int = 11) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 7, (count,), generator=generator).tolist()
    return [torch.randint(3, vocabulary, (n,), generator=generator).tolist() for n in lengths]


def logprob_of(
    model: FakeModel, source: list[int], tokens: list[int], *, ended: bool, prefix: int = 0
) -> float:
    """The truth: log-probability of the tokens after a prefix, and of the end token if ended."""
    total, whole = 0.0, [*tokens, END] if ended else tokens
    for place in range(prefix, len(whole)):
        logits = model.logits_after(source, whole[:place]).double()
        total += float(logits.log_softmax(-1)[whole[place]])
    return total


def all_outputs(
    model: FakeModel,
    source: list[int],
    *,
    limit: int,
    penalty: LengthPenalty,
    min_length: int = 0,
    prefix: tuple[int, ...] = (),
    forbidden: tuple[int, ...] = (PAD, START),
) -> list[Hypothesis]:
    """Every finished output of at most ``limit`` tokens (end included), best score first."""
    words = [token for token in range(model.vocabulary) if token not in (*forbidden, END)]
    found = []
    for more in range(limit - len(prefix)):
        if len(prefix) + more < min_length:
            continue
        for rest in itertools.product(words, repeat=more):
            tokens = [*prefix, *rest]
            logprob = logprob_of(model, source, tokens, ended=True, prefix=len(prefix))
            score = logprob / penalty(more + 1)
            found.append(Hypothesis(tokens, score, logprob, True))
    return sorted(found, key=lambda one: -one.score)


def close_to(found: Hypothesis, wanted: Hypothesis, tolerance: float = 1e-9) -> bool:
    return (
        found.tokens == wanted.tokens
        and found.finished == wanted.finished
        and math.isclose(found.logprob, wanted.logprob, abs_tol=tolerance)
        and math.isclose(found.score, wanted.score, abs_tol=tolerance)
    )
