"""Methods that draw random numbers, from a generator of their own."""

import torch
from torch import Tensor

from recon.methods.base.method import Method


class RandomMethod(Method):
    """Mixin for methods that draw random numbers, from a generator of their own that the checkpoint
    carries.

    The generator lives on the CPU. Numbers on another device come from :meth:`generator_on`, which
    is seeded from it, so that one state says it all and a run can be resumed on any device.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ValueError(f"{type(self).__name__}: seed must be a whole number from 0 to 2**63 - 1, got {seed!r}")
        self.seed = seed
        self.generator = torch.Generator().manual_seed(seed)

    def generator_on(self, device: torch.device) -> torch.Generator:
        """A fresh generator on the device, seeded with the next number of the method's own."""
        seed = torch.randint(2**63 - 1, (), generator=self.generator).item()
        return torch.Generator(device).manual_seed(int(seed))

    def get_extra_state(self) -> Tensor:
        """State of the generator, for ``state_dict``."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from the state in a ``state_dict``, whatever device that was mapped to."""
        self.generator.set_state(state.cpu())
