"""Networks that are divided among processes are refused, and errors tell of their wrapper."""

import pytest
import torch
from torch import nn

from recon.engine.parallel_wrappers import check_not_wrapped, told_of_wrapper


class FSDPModule:
    """The base that torch gives to the class of a fully sharded module."""


class FSDPLinear(FSDPModule, nn.Linear):
    """A module as ``fully_shard`` makes it."""


class DTensor(nn.Parameter):
    """A parameter that is divided among devices."""


def test_a_plain_network_passes() -> None:
    check_not_wrapped(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))


def test_a_fully_sharded_part_is_refused_wherever_it_is() -> None:
    with pytest.raises(ValueError, match="divided among processes by FSDP"):
        check_not_wrapped(nn.Sequential(nn.ReLU(), FSDPLinear(2, 2)))


def test_a_parameter_divided_among_devices_is_named() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network[0].weight = DTensor(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"'0\.weight' is a DTensor"):
        check_not_wrapped(network)


def test_an_error_of_data_parallel_training_names_the_cure() -> None:
    told = told_of_wrapper(RuntimeError("Expected to mark a variable ready only once. This error is caused by ..."))
    assert "ddp.module" in str(told)
    other = RuntimeError("another error")
    assert told_of_wrapper(other) is other
