"""A position scheme of one's own, in every family, without touching regard: ALiBi (Press, 2021).

A package declares it in its pyproject.toml, and recipes can then say positions = "my_alibi":

    [project.entry-points."regard.kinds"]
    "positions.my_alibi" = "my_package:Alibi"
"""

import torch
from torch import Tensor

from regard import registry
from regard.models import Transformer, TransformerConfig
from regard.nn.positions.scheme import PositionScheme


class Alibi(PositionScheme):
    """Scores fall by the distance between query and key, at a rate of each head's own."""

    def bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[B or 1, Tq], [B or 1, Tk] → [B or 1, H, Tq, Tk]."""
        heads = torch.arange(1, self.size.num_heads + 1, device=keys.device)
        slopes = 2.0 ** (-8.0 * heads / self.size.num_heads)  # [H]
        distance = (queries[:, :, None] - keys[:, None, :]).abs()  # [B, Tq, Tk]
        return -slopes[:, None, None] * distance[:, None]


if __name__ == "__main__":
    registry.KINDS["positions"]["my_alibi"] = "__main__:Alibi"  # what the entry point does
    config = TransformerConfig.preset("tiny", vocab_size=50, overrides={"positions": "my_alibi"})
    model = Transformer(config).eval()
    source, target = torch.randint(50, (2, 9)), torch.randint(50, (2, 7))
    logits = model(source, target)  # [2, 7, 50]
    state = model.start(source)
    steps = [model.step(target[:, i : i + 1], state) for i in range(7)]  # the cache works at once
    same = torch.allclose(torch.stack(steps, dim=1), logits, atol=1e-5)
    print(f"logits {tuple(logits.shape)}, step by step the same: {same}")
