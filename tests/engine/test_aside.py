import random

import numpy as np
import torch
from torch import nn

from recon.engine.aside import leaving_no_trace


def test_buffers_and_random_numbers_are_as_before() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    network.twin = network[1]
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    own = dict(network.named_buffers())
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    with leaving_no_trace([network], torch.device("cpu")):
        network(torch.randn(8, 3))
        random.random()
        np.random.rand()
        assert network[1].running_mean is network.twin.running_mean
        assert not torch.equal(network[1].running_mean, before["1.running_mean"])
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert all(buffer is own[name] for name, buffer in network.named_buffers())
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.array_equal(np.random.get_state()[1], state[2])  # type: ignore[index]


def test_a_buffer_that_a_graph_has_saved_stays_valid() -> None:
    norm = nn.BatchNorm1d(2).eval()
    loss = norm(torch.ones(3, 2, requires_grad=True)).sum()
    with leaving_no_trace([norm], torch.device("cpu")):
        norm.train()(torch.randn(4, 2))
    loss.backward()
    assert norm.weight.grad is not None


def test_buffers_come_back_after_an_error() -> None:
    norm = nn.BatchNorm1d(2)
    try:
        with leaving_no_trace([norm], torch.device("cpu")):
            norm.running_mean = torch.ones(2)
            raise ValueError
    except ValueError:
        pass
    assert norm.running_mean is not None and torch.equal(norm.running_mean, torch.zeros(2))
