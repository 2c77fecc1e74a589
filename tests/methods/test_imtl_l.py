import torch
import torchjd.scalarization

from recon.methods import IMTLL


def test_trains_as_torchjds_does() -> None:
    ours, theirs = IMTLL(), torchjd.scalarization.IMTLL(3)
    ours.bind(3)
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9) for each in (ours, theirs)]
    for seed in range(10):
        losses = torch.rand(3, generator=torch.Generator().manual_seed(seed))
        for objective, optimizer in zip((ours.objective, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            objective(losses).backward()
            optimizer.step()
        torch.testing.assert_close(ours.objective(losses), theirs(losses))
    torch.testing.assert_close(ours.log_scales, theirs.log_scale)
    assert ours.log_scales.abs().min() > 0.01


def test_learned_scales_bring_every_loss_to_one() -> None:
    method, losses = IMTLL(), torch.tensor([3.0, 0.2])
    method.bind(2)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        method.objective(losses).backward()
        optimizer.step()
    torch.testing.assert_close(method.loss_weights(losses).detach() * losses, torch.ones(2), rtol=1e-3, atol=0)


def test_starts_as_joint_training() -> None:
    losses = torch.tensor([3.0, 0.2])
    assert IMTLL().objective(losses).item() == losses.sum().item()
