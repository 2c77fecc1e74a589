"""The parameters that have a gradient, and whether it is sparse."""

import pytest
import torch

from recon.gradients.processes import Processes
from recon.gradients.reached import Reached

DENSE, SPARSE, NONE = (True, False), (True, True), (False, False)


def of(*parts: tuple[bool, bool]) -> Reached:
    return Reached([some for some, _ in parts], [sparse for _, sparse in parts])


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (NONE, NONE, NONE),
        (NONE, DENSE, DENSE),
        (NONE, SPARSE, SPARSE),
        (SPARSE, SPARSE, SPARSE),
        (SPARSE, DENSE, DENSE),
        (DENSE, DENSE, DENSE),
    ],
)
def test_sparse_and_dense_sum_to_dense(
    first: tuple[bool, bool], second: tuple[bool, bool], both: tuple[bool, bool]
) -> None:
    for pair in ((first, second), (second, first)):
        assert Reached.union([of(one) for one in pair], 1) == of(both)


def test_a_copy_changes_by_itself_and_one_process_is_its_own_union() -> None:
    reached = of(DENSE, NONE, SPARSE)
    copied = reached.copy()
    copied.add(of(NONE, DENSE, DENSE))
    assert (reached, copied) == (of(DENSE, NONE, SPARSE), of(DENSE, DENSE, DENSE))
    assert reached.over(Processes(), torch.device("cpu")) == reached
