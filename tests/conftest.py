"""What holds for all tests."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Whatever a test draws without a seed of its own, weights of networks included, is the same in every run.

    Not a function of what ran before it, nor of the order of tests.
    """
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
