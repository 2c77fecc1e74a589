"""The precision of Gramians does not depend on that of the forward pass."""

import torch
from torch import Tensor
from two_heads import TwoHeads, flat_grad

import recon


def test_gramian_is_not_computed_in_half_precision_under_autocast() -> None:
    net = TwoHeads(dtype=torch.float32)
    x = torch.randn(4, 1, 6, 6)
    engine = recon.Engine(net.backbone, ["a", "b"], recon.create_method("mgda"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        info = engine.backward(net.losses(x))
    jacobian = engine.gradients.jacobian
    assert info.layer_gramians is not None
    torch.testing.assert_close(info.layer_gramians.sum(0), jacobian @ jacobian.T)
    assert flat_grad(net.backbone).dtype == torch.float32


def test_the_users_matmul_precision_is_neither_used_for_gramians_nor_lost(x: Tensor) -> None:
    net = TwoHeads(dtype=torch.float32)
    seen = []

    class Watch(recon.GramianMethod):
        def weights(self, gramian: Tensor, losses: Tensor | None = None) -> Tensor:
            seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            return torch.ones(len(gramian), dtype=torch.float64)

    torch.set_float32_matmul_precision("medium")
    try:
        recon.backward(net.losses(x.float()), net.backbone, Watch())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == ["ieee"]
