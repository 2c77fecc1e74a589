"""The place of each parameter in a row."""

import pytest
import torch
from torch import nn

from recon.gradients.layout import Layout, as_real
from recon.gradients.reached import Reached


def parameter(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.zeros(shape, dtype=dtype))


def test_columns_dtype_and_size_of_mixed_parameters() -> None:
    weight, fine, wave = parameter(2, 3, dtype=torch.bfloat16), parameter(4, dtype=torch.float64), parameter(2)
    layout = Layout({"a": [weight], "b": [fine, wave]})
    assert layout.slices == {"a": slice(0, 6), "b": slice(6, 12)}
    assert (layout.size, layout.dtype, layout.precision) == (12, torch.float64, torch.bfloat16)
    assert Layout({"a": [weight]}).dtype == torch.float32
    assert Layout({}).size == 0


def test_complex_parameters_take_two_numbers() -> None:
    wave = parameter(3, dtype=torch.complex64)
    layout = Layout({"a": [wave]})
    assert (layout.size, layout.dtype) == (6, torch.float32)
    (value,) = layout.like_parameters(torch.arange(6.0))
    assert value.tolist() == [0 + 1j, 2 + 3j, 4 + 5j]
    assert as_real(value).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_views_have_the_strides_of_dense_parameters() -> None:
    last = nn.Parameter(torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last))
    layout = Layout({"a": [last]})
    flat = torch.arange(96.0)
    (view,) = layout.real_views(flat)
    assert view.stride() == last.stride()
    assert view.data_ptr() == flat.data_ptr()


def test_a_layout_is_for_the_same_parameters_as_they_were() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    layers = {"0": [*network[0].parameters()], "1": [*network[1].parameters()]}
    layout = Layout(layers)
    assert layout.is_for(layers)
    assert not layout.is_for({"0": layers["0"]})
    network.double()
    assert not layout.is_for(layers)
    assert not layout.is_for({name: [nn.Parameter(p) for p in own] for name, own in layers.items()})


def test_updates_go_to_reached_parameters_alone_and_sparse_ones_stay_sparse() -> None:
    dense, sparse, unreached = parameter(2), parameter(3, 2), parameter(2)
    dense.grad = torch.ones(2)
    layout = Layout({"a": [dense, sparse], "b": [unreached]})
    layout.add_where(Reached([True, True, False], [False, True, False]), torch.arange(10.0))
    assert dense.grad.tolist() == [1, 2]
    assert sparse.grad is not None and sparse.grad.is_sparse
    assert sparse.grad.to_dense().tolist() == [[2, 3], [4, 5], [6, 7]]
    assert unreached.grad is None


def test_parameters_on_several_devices_are_refused() -> None:
    elsewhere = nn.Parameter(torch.zeros(2, device="meta"))
    with pytest.raises(ValueError, match=r"shared parameters are on several devices \(cpu, meta\)"):
        Layout({"a": [parameter(2), elsewhere]})
