"""Every test starts from the same seeds; property tests draw the same examples every time."""

import random
import sys

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, print_blob=False
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _same_start():
    random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
