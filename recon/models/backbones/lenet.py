"""LeNet for 36 x 36 images, the backbone of multi-task work on sets like MultiMNIST.

Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, with the 9 x 9
first kernel that Lin et al., "Pareto Multi-Task Learning", NeurIPS 2019, use for 36 x 36 images.
"""

import torch
from torch import Tensor, nn


class LeNet(nn.Module):
    """Two convolutions, each with ReLU and max-pooling by two, and a linear layer with ReLU.

    >>> LeNet(features=50)(torch.zeros(8, 1, 36, 36)).shape
    torch.Size([8, 50])

    Args:
        in_channels: Channels of the images, which must be 36 x 36.
        features: Number of features.

    Attributes:
        num_features: The same number.
    """

    def __init__(self, in_channels: int = 1, features: int = 50) -> None:
        super().__init__()
        self.num_features = features
        self.conv1 = nn.Conv2d(in_channels, 10, kernel_size=9)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(20 * 5 * 5, features)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(B, in_channels, 36, 36)`` to features ``(B, features)``."""
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        return torch.relu(self.fc(torch.flatten(x, 1)))
