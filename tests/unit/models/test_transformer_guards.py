import pytest
import torch

from regard.errors import InputError, RecipeError
from regard.models import Transformer, TransformerConfig
from regard.nn import Causal, Documents


@pytest.mark.parametrize("size", [50, 60])
def test_two_vocabularies_never_share_a_matrix_even_of_one_size(size):
    with pytest.raises(RecipeError, match="two vocabularies"):
        TransformerConfig.preset("tiny", vocab_size=50, overrides={"target_vocab_size": size})
    apart = {"target_vocab_size": size, "tie": "target", "d_model": 16}
    config = TransformerConfig.preset("tiny", vocab_size=50, overrides=apart)
    model = Transformer(config)
    assert model.source_embedding is not model.target_embedding


@pytest.mark.parametrize("rule", [Causal(), Documents(torch.zeros(2, 6, dtype=torch.long))])
def test_a_source_rule_that_asks_for_query_slots_is_refused(rule):
    config = TransformerConfig.preset("tiny", vocab_size=50, overrides={"d_model": 16})
    model = Transformer(config)
    source, target = torch.zeros(2, 6, dtype=torch.long), torch.zeros(2, 8, dtype=torch.long)
    with pytest.raises(InputError, match="cross-attention"):
        model(source, target, source_mask=rule)
