"""Learning rates of parts of a network, as factors on the rate of the whole."""

from torch import Tensor, nn
from torch.optim import Optimizer

from recon.models.contract import has_own_rate


def set_own_rates(optimizer: Optimizer, network: nn.Module) -> None:
    """Give modules with an ``own_lr_scale`` groups of their own in an optimizer, in place.

    Their learning rate is that of their group times the scale; all other settings are the group's.
    Without such modules the optimizer stays as it is.

    >>> import torch
    >>> from recon.models import CrossStitch, LeNet
    >>> network = CrossStitch(LeNet, ["conv1"], unit_lr_scale=100.0).for_tasks(["digit", "letter"])
    >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    >>> set_own_rates(optimizer, network)
    >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
    [(12, 0.1), (1, 10.0)]

    Args:
        optimizer: An optimizer before its first step, and before any schedule.
        network: The network whose parameters it has.
    """
    scales: dict[Tensor, float] = {}
    for module in network.modules():
        parameters = [*module.parameters(recurse=False)]
        if has_own_rate(module) and module.own_lr_scale != 1:
            scales |= dict.fromkeys(parameters, module.own_lr_scale)
    for group in [*optimizer.param_groups]:
        own = [parameter for parameter in group["params"] if parameter in scales]
        group["params"] = [parameter for parameter in group["params"] if parameter not in scales]
        for scale in dict.fromkeys(scales[parameter] for parameter in own):
            parameters = [parameter for parameter in own if scales[parameter] == scale]
            optimizer.add_param_group({**group, "params": parameters, "lr": group["lr"] * scale})
