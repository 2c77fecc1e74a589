"""Hard parameter sharing: one backbone for all tasks, with a head for each.

Caruana, "Multitask Learning", Machine Learning 1997.
"""

from torch import nn


def hard_sharing(backbone: nn.Module) -> nn.Module:
    """The backbone itself: every layer of it is shared, under its own name.

    >>> from recon.models import LeNet
    >>> backbone = LeNet()
    >>> hard_sharing(backbone) is backbone
    True

    Args:
        backbone: The network that all tasks share.
    """
    return backbone
