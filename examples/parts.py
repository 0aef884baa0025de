"""A Transformer from parts, in ten lines: an encoder that tells which tokens repeat."""

import torch
from torch import nn

from regard.nn import Full, LayerSpec, Linear, Stack, StackSpec, TokenEmbedding

torch.manual_seed(0)
embed = TokenEmbedding(10, 32)
stack = Stack(StackSpec(2, layer=LayerSpec()), 32, max_positions=16, input_dropout=0.0)
head = Linear(32, 2)
model = nn.ModuleList([embed, stack, head])
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for _ in range(300):
    ids = torch.randint(10, (64, 8))  # [B, T]
    repeats = (ids[:, :, None] == ids[:, None, :]).sum(-1) > 1  # [B, T]
    logits = head(stack(embed(ids), mask=Full()))  # [B, T, 2]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), repeats.flatten().long())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.3f}, right {(logits.argmax(-1) == repeats).float().mean():.0%}")
