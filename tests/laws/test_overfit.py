"""Law: twenty examples with random labels are learned by heart in seconds."""

import math

import torch
from torch.nn import functional as F

from ._cases import law


@law(every=13, pairs=False)
def test_twenty_examples_are_learned(case):
    without = dict.fromkeys(case.dropouts, 0.0)
    model = case.model(torch.float32, noise=0.0, d_model=32, **without).train()
    example = case.example(20, 6, d_model=32)
    if case.family.shape == "decoder":  # what begins alike could not go on by heart otherwise
        example[case.causal_input][:, 0] = torch.arange(20)
    elif "ids" in example and case.family.shape == "encoder":  # nor what is alike on both sides
        example["ids"] = torch.stack([torch.randperm(20)[:6] for _ in range(20)])
    with torch.no_grad():
        shape = case.run(model, example).shape
    labels = torch.randint(shape[-1], shape[:-1]).flatten()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.98))
    first = loss = None
    for _ in range(250):
        loss = F.cross_entropy(case.run(model, example).flatten(0, -2), labels)
        first = loss.item() if first is None else first
        if loss < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert first > 0.8 * math.log(shape[-1])
    assert loss < 0.05
