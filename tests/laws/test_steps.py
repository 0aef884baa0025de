"""Law: step by step = all at once, by both caches, whatever beams do to the state.

(Searches over both caches: test_cache.py.)
"""

import pytest
import torch

from regard.nn import CACHES, kernels

from ._cases import law


class Walk:
    """A state beside the truth: every hypothesis's tokens so far, read by the model all at once."""

    def __init__(self, case, model, *, width, cache, sentences=3):
        self.case, self.model, self.width = case, model, width
        example = case.example(batch=sentences, length=6)
        self.given = {}
        if (source := example.get("source_ids")) is not None:
            lengths = torch.randint(1, source.shape[1] + 1, (sentences, 1))
            self.given = {"source_ids": source, "source_mask": torch.arange(6 + 1) < lengths}
        self.sentences = sentences
        self.words = int(example[case.causal_input].max()) + 1
        start = self.given or {"sentences": sentences}
        with kernels.use(case.kernel):
            self.state = model.start(**start, width=width, cache=cache)
        self.history = torch.empty(sentences * width, 0, dtype=torch.long)

    def step(self, count):
        """Feed ``count`` tokens to each hypothesis; the truth must agree."""
        tokens = torch.randint(self.words, (len(self.history), count))
        self.history = torch.cat([self.history, tokens], dim=1)
        with kernels.use(self.case.kernel):
            made = self.model.step(tokens, self.state)
        whole = {k: v.repeat_interleave(self.width, dim=0) for k, v in self.given.items()}
        whole[self.case.causal_input] = self.history
        truth = self.case.run(self.model, whole)[:, -1]
        torch.testing.assert_close(made, truth, rtol=0, atol=1e-12)
        assert self.state.length == self.history.shape[1]

    def advance(self):
        """Go on from hypotheses drawn within each sentence."""
        within = torch.randint(self.width, (self.sentences, self.width))
        parents = (torch.arange(self.sentences)[:, None] * self.width + within).flatten()
        self.history = self.history[parents]
        self.state.advance(parents)

    def keep(self, sentences):
        """Only these stay."""
        rows = (sentences[:, None] * self.width + torch.arange(self.width)).flatten()
        self.given = {name: value[sentences] for name, value in self.given.items()}
        self.sentences = len(sentences)
        self.history = self.history[rows]
        self.state.keep(sentences)
        assert self.state.sentences == len(sentences)


@pytest.mark.parametrize("cache", CACHES)
@law("cache")
@torch.no_grad()
def test_step_by_step_is_all_at_once(case, cache):
    model = case.model()
    for width in (1, 2, 3, 4):
        walk = Walk(case, model, width=width, cache=cache)
        walk.step(3)
        walk.advance()
        walk.step(1)
        walk.advance()
        walk.advance()
        walk.keep(torch.tensor([2, 0]))
        walk.step(1)
        walk.advance()
        walk.step(2)
        walk.keep(torch.tensor([1]))
        walk.advance()
        walk.step(1)
