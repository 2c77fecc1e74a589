import torch
from torch import nn

from recon.branching import branch, growth

NETWORK = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8, bias=False), nn.Linear(8, 8))


def test_growth_counts_what_runs_once_per_task() -> None:
    found = growth(branch(NETWORK, ["2"], ("a", "b", "c")), torch.randn(5, 8))
    linear = 2 * 5 * 8 * 8
    assert (found.flops.plain, found.flops.branched) == (3 * linear, linear + 3 * 2 * linear)
    plain = sum(parameter.numel() for parameter in NETWORK.parameters())
    assert (found.parameters.plain, found.parameters.branched) == (plain, plain + 2 * 64)
    assert found.parameters.ratio == (plain + 128) / plain
    assert found.seconds.plain > 0


def test_growth_leaves_the_network_as_it_is() -> None:
    net = branch(NETWORK, ["0"], ("a", "b"))
    growth(net, torch.randn(5, 8), repeats=1)
    assert all(module.training for module in net.modules())
    assert net.shared[1].num_batches_tracked == 0


def test_growth_prints_the_ratios_side_by_side() -> None:
    lines = str(growth(branch(NETWORK, ["3"], ("a", "b")), torch.randn(5, 8), repeats=1)).splitlines()
    assert [line.split()[0] for line in lines] == ["branched", "parameters", "FLOPs", "forward"]
    assert lines[2].split()[-1] == "1.333"
