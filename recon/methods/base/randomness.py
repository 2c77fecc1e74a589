"""Methods that draw random numbers, from a generator of their own."""

from typing import Any

import torch
from torch import Tensor

from recon.methods.base.method import Method


class RandomMethod(Method):
    """Mixin for methods that draw random numbers, from a generator of their own.

    The checkpoint holds the generator, which lives on the CPU. Numbers on another device come from
    :meth:`generator_on`, which this generator seeds. One state therefore describes all randomness,
    and a run can resume on any device.

    Args:
        seed: Seed of the generator.

    Example:
        >>> import torch
        >>> from recon.methods import GramianMethod
        >>> class Coin(RandomMethod, GramianMethod):
        ...     def weights(self, gramian, losses=None):
        ...         return torch.randint(2, (len(gramian),), generator=self.generator).double()
        >>> Coin(seed=1).weights(torch.eye(3)).equal(Coin(seed=1).weights(torch.eye(3)))
        True
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
        """Return a fresh generator on a device, seeded by the method's own generator."""
        seed = torch.randint(2**63 - 1, (), generator=self.generator).item()
        return torch.Generator(device).manual_seed(int(seed))

    def __getstate__(self) -> dict[str, Any]:
        # torch cannot send a generator to a process that it spawns.
        return {**self.__dict__, "generator": self.generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        generator = torch.Generator()
        generator.set_state(torch.frombuffer(bytearray(state["generator"]), dtype=torch.uint8))
        super().__setstate__({**state, "generator": generator})

    def get_extra_state(self) -> Tensor:
        """State of the generator, for ``state_dict``."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from the state in a ``state_dict``, whatever device it was mapped to."""
        self.generator.set_state(state.cpu())
