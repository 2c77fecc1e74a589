"""MTAN for backbones with stages of blocks, such as ResNets.

Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, as LibMTL builds
it around a ResNet. A mask is made of the output of a stage's last block but one, and chooses among
the features of its last block. A shared block brings the choice to the next stage.

Here it is a network with a single attention path. The network of K tasks is that one with masks for
each task, which training makes itself, each from a draw of its own. In a loop of your own pass a
function that makes the network as ``init`` of :func:`recon.branch`.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from recon.gradients.layers import all_layers
from recon.models.architectures.mtan import AttentionMask, with_new_masks
from recon.models.architectures.parts import HeadsAsOf
from recon.models.architectures.stages import check_stages, record


class MTAN(nn.Module, HeadsAsOf):
    """A backbone with one path of attention along its stages.

    The layers of the masks, ``masks``, are the task-specific layers. Those of the backbone,
    ``backbone.layer1.0.conv1``, and of the blocks of the path, ``blocks``, are shared: a conflict
    map scores them, and Recon may branch them. The attended features take the place of the last
    stage's output in the backbone.

    >>> import recon, torch
    >>> from recon.models import ResNet18
    >>> stages = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}
    >>> network = MTAN(ResNet18(width=4), stages, expansion=1)
    >>> mtan = recon.branch(network, network.task_specific_layers(), ["digit", "letter"])
    >>> {task: tuple(own.shape) for task, own in mtan(torch.zeros(2, 1, 36, 36)).items()}
    {'digit': (2, 100), 'letter': (2, 100)}

    Args:
        backbone: The shared network.
        stages: Stages in order, by their paths in the backbone, with the channels of their outputs.
            A stage is an ``nn.Sequential`` of two blocks or more. ResNet-50 has 256, 512, 1024 and
            2048 in ``layer1`` to ``layer4``.
        expansion: How many times as many channels as inside a block its output has: 4 for
            bottlenecks, as in ResNet-50; 1 for basic blocks, as in ResNet-18. Masks and blocks of
            the path are as narrow inside.

    Raises:
        ValueError: A stage is unknown (the error names the nearest) or has fewer than two blocks,
            the expansion is not 1 or 4, or a number of channels is no multiple of it.
    """

    def __init__(self, backbone: nn.Module, stages: dict[str, int], expansion: int = 4) -> None:
        super().__init__()
        if not stages:
            raise ValueError("stages is empty; give one or more, with the channels of their outputs")
        if not isinstance(stages, Mapping):
            raise ValueError(
                f"stages is {stages!r}; give the channels of each stage's outputs, such as {{'layer1': 64}}"
            )
        for stage, own in stages.items():
            if type(expansion) is not int or expansion not in (1, 4):
                raise ValueError(f"expansion is {expansion!r}; it is 1 for basic blocks, and 4 for bottlenecks")
            if type(own) is not int or own < 1 or own % expansion:
                raise ValueError(
                    f"stage {stage!r} has {own!r} channels and expansion is {expansion}; give a positive whole number, "
                    "a multiple of the expansion"
                )
        self.backbone = backbone
        check_stages(backbone, [*stages])
        blocks = {stage: _last_blocks(backbone, stage) for stage in stages}
        self.halves = {half: (number, half == pair[1]) for number, pair in enumerate(blocks.values()) for half in pair}
        self._steps = record(backbone, [*self.halves])
        channels = [*stages.values()]
        inputs = [channels[0], *(2 * own for own in channels[1:])]
        self.masks = nn.ModuleList(
            AttentionMask(entering, own, own // expansion) for entering, own in zip(inputs, channels, strict=True)
        )
        self.blocks = nn.ModuleList(_block(own, following, expansion) for own, following in pairwise(channels))

    def forward(self, x: Tensor) -> Any:
        """Map inputs to the features of one task, of the shape that the backbone gives."""
        path = _Path(self)
        [features] = self._steps[self.training].run([self.backbone], x, path.follow)
        return features

    def task_specific_layers(self) -> list[str]:
        """The layers of the attention masks; each task has its own copy of them."""
        return [name for name in all_layers(self) if name.startswith("masks.")]

    def drawn_anew(self) -> Self:
        """A copy whose masks have new start values."""
        return with_new_masks(self)

    def _pattern(self) -> nn.Module:
        return self.backbone


class _Path:
    """The attention in one forward.

    Args:
        network: The network.
    """

    def __init__(self, network: MTAN) -> None:
        self.network = network
        self.entered: Any = None
        self.chosen: Any = None

    def follow(self, half: str, outputs: Sequence[Any]) -> Sequence[Any]:
        """Take the outputs of a stage; return the backbone's own, and attended ones at the end."""
        number, is_last_block = self.network.halves[half]
        if not is_last_block:
            self.entered = outputs[0]
            return outputs
        seen = self.entered
        if number:
            before = F.adaptive_max_pool2d(self.chosen, seen.shape[-2:])  # as it is, if of one size
            seen = torch.cat((seen, before), dim=1)
        attended = self.network.masks[number](seen) * outputs[0]
        if number == len(self.network.blocks):
            return [attended]
        self.chosen = self.network.blocks[number](attended)
        return outputs


def _last_blocks(backbone: nn.Module, stage: str) -> tuple[str, str]:
    """The paths of the last two blocks of a stage."""
    module = backbone.get_submodule(stage)
    if not isinstance(module, nn.Sequential) or len(module) < 2:
        raise ValueError(
            f"stage {stage!r} of {type(backbone).__name__} is a {type(module).__name__}; attention needs an "
            "nn.Sequential of two blocks or more"
        )
    return f"{stage}.{len(module) - 2}", f"{stage}.{len(module) - 1}"


def _block(inputs: int, outputs: int, expansion: int) -> nn.Module:
    """A residual block of a ResNet that changes the number of channels."""
    kind = BasicBlock if expansion == 1 else Bottleneck
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=1, bias=False), nn.BatchNorm2d(outputs))
    return kind(inputs, outputs // kind.expansion, downsample=shortcut)
