"""The Transformer from parts, in ten lines; it learns to write digits backwards."""

import torch
from torch import Tensor, nn

from regard import nn as parts

START = 10


class Transformer(nn.Module):
    """Source and target ids in, logits out."""

    def __init__(self, vocab_size: int = 11, width: int = 64) -> None:
        super().__init__()
        layer = parts.LayerSpec(feed_forward=parts.FeedForwardSpec(d_ff=128), dropout=0.0)
        spec, sizes = parts.StackSpec(1, layer=layer), {"max_positions": 16, "input_dropout": 0.0}
        self.embed = parts.TokenEmbedding(vocab_size, width)
        self.encoder = parts.Stack(spec, width, **sizes)
        self.decoder = parts.Stack(spec, width, mask=parts.Causal(), d_memory=width, **sizes)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:  # [B, S], [B, T]
        memory = parts.Memory(self.encoder(self.embed(source), mask=parts.Full()))
        states = self.decoder(self.embed(target), mask=parts.Full(), memory=memory)
        return states @ self.embed.weight.T  # [B, T, d_model] → [B, T, V]


torch.manual_seed(0)
model = Transformer()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for _ in range(400):
    source = torch.randint(10, (64, 6))
    labels = source.flip(1)
    target = torch.cat([torch.full((64, 1), START), labels[:, :-1]], dim=1)
    logits = model(source, target)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.3f}, right {(logits.argmax(-1) == labels).float().mean():.0%}")
