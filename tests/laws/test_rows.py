"""Law: a row alone gives what it gives in any batch (batches of a search: test_batch.py)."""

import pytest
import torch

from ._cases import law, mask_of

LENGTHS = [7, 3, 5, 1]
BOUNDS = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@law(pairs=False)
def test_a_row_is_the_same_alone_and_in_any_batch(case, dtype):
    model = case.model(dtype)
    if hasattr(model, "features"):
        model.forward = model.features
    example = case.example(batch=len(LENGTHS), length=7)
    alone = []
    for row, length in enumerate(LENGTHS):
        short = {name: x[row : row + 1] for name, x in example.items()}
        for name in case.paddable:
            short[name] = short[name][:, : example[name].shape[1] - 7 + length]
        alone.append(case.run(model, short)[0])
    for rows in ([0, 1, 2, 3], [3, 1], [2, 3, 2, 0]):
        batch = {name: x[rows].clone() for name, x in example.items()}
        for name in case.paddable:
            ends = torch.tensor([batch[name].shape[1] - 7 + LENGTHS[row] for row in rows])
            batch[mask_of(name)] = torch.arange(batch[name].shape[1]) < ends[:, None]
        made = case.run(model, batch)
        for place, row in enumerate(rows):
            ours = made[place] if made.ndim < 3 else made[place, : len(alone[row])]
            torch.testing.assert_close(ours, alone[row], rtol=0, atol=BOUNDS[dtype])
