import io

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import CRMOGMWeighting, IMTLGWeighting

from recon.methods import CRMOGM, MGDA, GradVac, Method, create_method


def normal(seed: int, tasks: int = 4) -> Tensor:
    return torch.randn(tasks, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def updates(method: Method, seeds: range) -> list[list[float]]:
    return [method.combine(normal(seed)).tolist() for seed in seeds]


def test_equals_torchjd_step_for_step() -> None:
    ours, theirs = CRMOGM("imtl_g", alpha=0.7), CRMOGMWeighting(IMTLGWeighting(), alpha=0.7)
    for seed in range(5):
        gramian = normal(seed) @ normal(seed).T
        torch.testing.assert_close(ours.weights(gramian), theirs(gramian))


def test_starts_as_the_method_and_then_remembers() -> None:
    method = CRMOGM("mgda", alpha=0.9)
    first, second = normal(0) @ normal(0).T, normal(1) @ normal(1).T
    start = MGDA().weights(first)
    torch.testing.assert_close(method.weights(first), start)
    torch.testing.assert_close(method.weights(second), 0.9 * start + 0.1 * MGDA().weights(second))


def test_without_past_it_is_the_method() -> None:
    assert updates(CRMOGM("mgda", alpha=0), range(3)) == updates(MGDA(), range(3))


def test_options_seed_and_scale_are_the_methods() -> None:
    method = CRMOGM("gradvac", method_options={"beta": 0.1})
    assert isinstance(method.wrapped, GradVac)
    assert method.wrapped.beta == 0.1
    assert method.scale == "sum"
    method.reseed(7)
    assert method.wrapped.seed == 7


def test_both_states_continue_from_a_checkpoint() -> None:
    method = create_method("cr_mogm", method="gradvac")
    updates(method, range(3))
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    expected = updates(method, range(3, 6))
    file.seek(0)
    resumed = create_method("cr_mogm", method="gradvac")
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert updates(resumed, range(3, 6)) == expected


def test_repr_reproduces_the_call() -> None:
    call = "CRMOGM(method='mgda', alpha=0.9, method_options={'normalization': 'l2'})"
    assert repr(eval(call, {"CRMOGM": CRMOGM})) == call


def test_methods_of_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="wraps methods that weight task gradients by their Gramian; 'graddrop' does"):
        CRMOGM("graddrop")


def test_unknown_methods_and_options_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="mgda"):
        CRMOGM("mgd")
    with pytest.raises(ValueError, match="normalization"):
        CRMOGM("mgda", method_options={"normalisation": "l2"})


@pytest.mark.parametrize("alpha", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"cr_mogm: alpha must be a number in \[0, 1\], got"):
        CRMOGM(alpha=alpha)
