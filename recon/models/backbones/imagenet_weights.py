"""Weights that torchvision publishes for its networks, downloaded once."""

from pathlib import Path
from urllib.error import URLError

from torch import Tensor
from torch.hub import get_dir
from torchvision.models.mobilenetv2 import MobileNet_V2_Weights
from torchvision.models.resnet import ResNet50_Weights


def downloaded(weights: ResNet50_Weights | MobileNet_V2_Weights) -> dict[str, Tensor]:
    """The state of a network with these weights, from torch's cache or from the web.

    Raises:
        OSError: They cannot be downloaded.
    """
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except URLError as error:
        raise OSError(
            f"cannot download pretrained weights from {weights.url} ({error.reason}); put the file into "
            f"{Path(get_dir()) / 'checkpoints'}, or set pretrained to false"
        ) from error
