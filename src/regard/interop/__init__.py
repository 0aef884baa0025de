"""The field's weights, in and out: bit-identical, with every setting understood or refused."""
