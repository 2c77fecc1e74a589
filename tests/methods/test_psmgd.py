import io

import pytest
import torch
from torch import Tensor

from recon.methods import MGDA, PSMGD, create_method


def gramian(seed: int, tasks: int = 4) -> Tensor:
    jacobian = torch.randn(tasks, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return jacobian @ jacobian.T


def test_weights_are_computed_at_every_nth_step_and_kept_in_between() -> None:
    method = PSMGD("mgda", every=3)
    for step in range(7):
        torch.testing.assert_close(method.weights(gramian(step)), MGDA().weights(gramian(step // 3 * 3)))


def test_every_step_is_the_method_itself() -> None:
    method = PSMGD("mgda", every=1)
    for step in range(3):
        assert torch.equal(method.weights(gramian(step)), MGDA().weights(gramian(step)))


def test_kept_weights_continue_from_a_checkpoint() -> None:
    method = PSMGD("cr_mogm", every=3, method_options={"method": "mgda"})
    for step in range(5):
        method.weights(gramian(step))
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = [method.weights(gramian(step)).tolist() for step in range(5, 9)]
    file.seek(0)
    resumed = PSMGD("cr_mogm", every=3, method_options={"method": "mgda"})
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert [resumed.weights(gramian(step)).tolist() for step in range(5, 9)] == expected


def test_what_a_user_does_with_the_weights_leaves_the_kept_ones_alone() -> None:
    method = PSMGD()
    method.weights(gramian(0)).zero_()
    torch.testing.assert_close(method.weights(gramian(1)), MGDA().weights(gramian(0)))


@pytest.mark.parametrize("every", [0, -1, 2.0, True])
def test_a_period_out_of_range_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match="psmgd: every must be a whole number >= 1, got"):
        PSMGD(every=every)


@pytest.mark.parametrize("name", ["psmgd", "cr_mogm", "fmtl"])
def test_options_of_the_wrapped_method_that_are_no_mapping_are_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name}: method_options must map names of hyperparameters to values, got \[1\]"
    ):
        create_method(name, method_options=[1])


def test_a_refusal_of_the_wrapped_method_leaves_the_wrapper_unbound() -> None:
    method = create_method("psmgd", method="krum")
    with pytest.raises(ValueError, match=r"krum: .* need at least 3 tasks, got 2"):
        method.bind(2)
    method.bind(3)
