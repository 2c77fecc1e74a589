import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))  # for two_heads and in_threads

from in_threads import Threads


@pytest.fixture
def x() -> Tensor:
    return torch.randn(4, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    yield Threads(monkeypatch)
    for backend, precision in zip(backends, before, strict=True):  # a thread restores what another one has set
        backend.fp32_precision = precision
