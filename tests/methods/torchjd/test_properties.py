"""What TorchJD asks of its aggregators, asked of our methods in its API, over matrices of the same
kinds, in float32.

A method that fails what it does not promise is none of this file's business; what it promises is in
recon.methods.catalogue.properties.
"""

from math import sqrt

import pytest
import torch
from torch import Tensor

from recon.methods import GramianMethod, JacobianMethod, Method, create_method, to_torchjd
from recon.methods.catalogue.properties import ENTRIES, Entry, Property


def build(entry: Entry) -> Method:
    return create_method(entry.method, **entry.options)


def aggregates(entry: Entry) -> bool:
    """Whether it is an aggregator there: no losses, no step of its own."""
    method = build(entry)
    if not isinstance(method, GramianMethod | JacobianMethod) or type(method).step is not Method.step:
        return False
    try:
        method.combine(torch.eye(4))
    except ValueError:
        return False
    return True


AGGREGATORS = [entry for entry in ENTRIES if aggregates(entry)]


def promising(*promises: Property) -> pytest.MarkDecorator:
    chosen = [entry for entry in AGGREGATORS if set(promises) <= entry.properties]
    return pytest.mark.parametrize("entry", chosen, ids=lambda entry: entry.label)


def orthonormal(generator: torch.Generator, size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator))[0]


def of_rank(rank: int, tasks: int, parameters: int, vanishing: Tensor | None = None) -> Tensor:
    """Random singular values; the combination ``vanishing`` of the rows is zero."""
    generator = torch.Generator().manual_seed(rank + tasks)
    left, right = orthonormal(generator, tasks), orthonormal(generator, parameters)
    if vanishing is not None:
        weights = vanishing[:, None] / vanishing.norm()
        left = torch.linalg.qr(torch.cat([weights, left[:, : tasks - 1]], dim=1))[0][:, 1:]
    return left[:, :rank] * torch.randn(rank, generator=generator).abs() @ right[:rank]


def positive(tasks: int) -> Tensor:
    return 0.1 + torch.rand(tasks, generator=torch.Generator().manual_seed(tasks))


SHAPES = [(1, 4, 3), (2, 4, 3), (3, 4, 3), (5, 9, 11), (9, 9, 11)]
PLAIN = [of_rank(*shape) for shape in SHAPES]
STATIONARY = [of_rank(*shape, vanishing=positive(shape[1])) for shape in [(3, 5, 3), (6, 9, 11), (2, 7, 13)]]
TYPICAL = [torch.zeros(4, 3), torch.zeros(9, 11), *PLAIN, *STATIONARY]


@promising()
def test_expected_structure(entry: Entry) -> None:
    for matrix in [*TYPICAL, *(scale * plain for scale in (1e-10, 1e3, 1e5, 1e10, 1e15) for plain in PLAIN)]:
        vector = to_torchjd(build(entry))(matrix)
        assert vector.shape == matrix.shape[1:]
        assert vector.dtype == matrix.dtype
        assert vector.isfinite().all()


@promising("non-conflicting")
def test_non_conflicting(entry: Entry) -> None:
    for matrix in TYPICAL:
        assert (matrix @ to_torchjd(build(entry))(matrix)).min() >= -4e-4


@promising("order-free")
def test_permutation_invariant(entry: Entry) -> None:
    for seed, matrix in enumerate(TYPICAL):
        order = torch.randperm(len(matrix), generator=torch.Generator().manual_seed(seed))
        adapter, permuted = to_torchjd(build(entry)), to_torchjd(build(entry))
        torch.testing.assert_close(permuted(matrix[order]), adapter(matrix), rtol=1e-4, atol=1e-4)


@promising("linear")
def test_linear_under_scaling(entry: Entry) -> None:
    for seed, matrix in enumerate(TYPICAL):
        first, second = torch.rand(2, len(matrix), 1, generator=torch.Generator().manual_seed(seed))
        updates = [
            to_torchjd(build(entry))(factors * matrix) for factors in (first, second, 0.3 * first + 0.6 * second)
        ]
        torch.testing.assert_close(updates[2], 0.3 * updates[0] + 0.6 * updates[1], rtol=1e-4, atol=1e-4)


@promising("stops")
def test_zero_where_strongly_stationary(entry: Entry) -> None:
    for matrix in STATIONARY:
        assert to_torchjd(build(entry))(matrix).norm() <= 5e-3


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_strongly_stationary(name: str) -> None:
    """These two, as TorchJD's, are zero nowhere else: not where only some of the gradients
    cancel.
    """
    for tasks in (3, 6):
        generator = torch.Generator().manual_seed(tasks)
        matrix = torch.randn(tasks, 13, generator=generator) / sqrt(13)
        matrix[1] = -0.5 * matrix[0]
        assert to_torchjd(create_method(name))(matrix).norm() > 5e-3


@promising()
def test_non_differentiable(entry: Entry) -> None:
    vector = to_torchjd(build(entry))(torch.ones(3, 5, requires_grad=True))
    with pytest.raises(RuntimeError, match="does not require grad"):
        vector.backward(torch.ones_like(vector))
