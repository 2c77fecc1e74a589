"""Weights of Gramian methods from gradients in float32."""

import pytest
import torch
from torch import Tensor, nn

import recon


class Rows(nn.Module):
    """A shared point whose K task gradients are the rows of a matrix."""

    def __init__(self, jacobian: Tensor) -> None:
        super().__init__()
        self.jacobian, self.point = jacobian, nn.Parameter(torch.zeros(jacobian.shape[1]))

    def losses(self) -> dict[str, Tensor]:
        return {f"t{i}": row @ self.point + 1 for i, row in enumerate(self.jacobian)}


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 3e-4, 1e-4])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "name", ["mgda", "cagrad", "upgrad", "dualproj", "imtl_g", "nash_mtl", "fairgrad", "aligned_mtl"]
)
def test_gradients_that_nearly_depend_on_each_other_are_told_apart_in_float32(
    name: str, sign: int, distance: float
) -> None:
    for seed in range(3):
        jacobian = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(seed))
        jacobian[1] = sign * jacobian[0] + distance * jacobian[1]
        net = Rows(jacobian)
        recon.backward(net.losses(), net, recon.create_method(name))
        assert net.point.grad is not None
        expected = recon.create_method(name).combine(jacobian)
        torch.testing.assert_close(net.point.grad, expected, rtol=0, atol=1e-4 * float(jacobian[0].norm()))


@pytest.mark.parametrize("name", ["imtl_g", "nash_mtl", "cagrad"])
def test_float32_inner_products_of_regular_gradients_are_taken_as_they_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recon.engine.routes.weights.gramian_of", pytest.fail)
    net = Rows(torch.randn(5, 20_000, generator=torch.Generator().manual_seed(0)))
    recon.backward(net.losses(), net, recon.create_method(name))
    assert net.point.grad is not None
    torch.testing.assert_close(net.point.grad, recon.create_method(name).combine(net.jacobian), rtol=0, atol=1e-4)
