import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "branching"))  # for separate_copies
sys.path.insert(0, str(Path(__file__).parent / "architectures"))  # for rotograd_cases


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Networks of a few channels gain nothing from threads, and lose much where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
