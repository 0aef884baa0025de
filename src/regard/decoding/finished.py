"""What a sentence's beam has finished, and when nothing more is to come."""

from __future__ import annotations

import math

from regard.decoding.spec import DecodingSpec, Hypothesis
from regard.errors import RegardError


class Pool:
    """The finished outputs of one sentence, best first, at most ``beam``.

    Attributes:
        limit: the most tokens of an output, prefix and end token included.
        closed: nothing is added any more.
    """

    def __init__(self, spec: DecodingSpec, limit: int, prefix: int) -> None:
        self.limit = limit
        self.closed = False
        self._spec = spec
        self._prefix = prefix
        self._found: list[Hypothesis] = []

    @property
    def full(self) -> bool:
        """Whether as many outputs are finished as are wanted in the end."""
        return len(self._found) >= self._spec.nbest

    def finish(self, tokens: list[int], logprob: float) -> None:
        """Add an output whose next token is the end token; ``logprob`` includes that."""
        if self.closed:
            return
        penalty = self._penalty(len(tokens) + 1)
        self._found.append(hypothesis(tokens, logprob, penalty, finished=True))
        self._found.sort(key=lambda one: -one.score)  # stable: of equal ones the earlier stays
        del self._found[self._spec.beam :]
        if self._spec.stop == "first" and len(self._found) == self._spec.beam:
            self.closed = True

    def settle(self, logprob: float, length: int) -> None:
        """Close if no open output can still come among the n best, or would if it ended now.

        An open output's log-probability can only fall; its score is highest where it falls no
        more and the penalty is kindest, at the next token or at the limit. (``present`` takes the
        penalty as it is, and asks for a whole beam of finished ones.)

        Args:
            logprob: of the best open output.
            length: its tokens.
        """
        if self._spec.stop == "present":
            wanted, penalty = self._spec.beam, self._penalty(length)
        else:
            wanted = self._spec.nbest
            penalty = max(self._penalty(length + 1), self._penalty(self.limit))
        if len(self._found) >= wanted and logprob / penalty <= self._found[wanted - 1].score:
            self.closed = True

    def give_up(self, tokens: list[list[int]], logprobs: list[float]) -> None:
        """Close at the limit; open outputs fill the places that finished ones leave free.

        With ``present`` they compete with them.
        """
        self.closed = True
        compete = self._spec.stop == "present"
        for text, logprob in zip(tokens, logprobs, strict=True):
            if (compete or not self.full) and logprob != -math.inf:
                penalty = self._penalty(len(text))
                self._found.append(hypothesis(text, logprob, penalty, finished=False))
        if compete:
            self._found.sort(key=lambda one: -one.score)

    def best(self) -> list[Hypothesis]:
        """The n best; fewer where there are no more.

        Raises:
            RegardError: when there is none at all.
        """
        if not self._found:
            raise RegardError("no output is possible", hint="forbid fewer tokens")
        return self._found[: self._spec.nbest]

    def _penalty(self, length: int) -> float:
        return self._spec.length_penalty(length - self._prefix)


def hypothesis(tokens: list[int], logprob: float, penalty: float, *, finished: bool) -> Hypothesis:
    """A hypothesis and its score.

    Raises:
        RegardError: when the model's numbers were none.
    """
    if math.isnan(logprob):
        raise RegardError(
            "the model's logits are not numbers",
            hint="its weights may be damaged, or the precision too low for it",
        )
    return Hypothesis(tokens, logprob / penalty, logprob, finished)
