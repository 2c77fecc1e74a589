"""Fixtures of all tests, the examples in docstrings included."""

import random
import signal
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from recon.methods.base import registry

# A job in the background of a script ignores Ctrl-C, and hands that on to every program that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Its base class is transformers' own; without that package there is nothing to import.
collect_ignore = [] if find_spec("transformers") else ["recon/training/hugging_face.py"]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Whatever a test draws without a seed of its own, weights of networks included, is the same in every run.

    Not a function of what ran before it, nor of the order of tests.
    """
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def methods_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods that a test registers are forgotten after it."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
