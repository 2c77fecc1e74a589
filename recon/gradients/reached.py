"""The shared parameters that backwards have reached, and whether their gradients came sparse."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from recon.gradients.processes import Processes


@dataclass
class Reached:
    """The parameters that hold a gradient.

    Attributes:
        some: For each parameter whether it has a gradient.
        sparse: For each parameter whether all its gradients are sparse; sparse and dense sum to
            dense.

    Example:
        >>> first = Reached(some=[True, False], sparse=[True, False])
        >>> second = Reached(some=[True, True], sparse=[False, True])
        >>> Reached.union([first, second], 2)
        Reached(some=[True, True], sparse=[False, True])
    """

    some: list[bool]
    sparse: list[bool]

    @classmethod
    def nothing(cls, parameters: int) -> "Reached":
        """No parameter is reached."""
        return cls([False] * parameters, [False] * parameters)

    @classmethod
    def union(cls, several: Iterable["Reached"], parameters: int) -> "Reached":
        """The parameters that one of several has reached."""
        result = cls.nothing(parameters)
        for one in several:
            result.add(one)
        return result

    def copy(self) -> "Reached":
        """A copy that changes by itself."""
        return Reached([*self.some], [*self.sparse])

    def add(self, other: "Reached") -> None:
        """Count the gradients of another one too."""
        if any(other.sparse) or any(self.sparse):
            dense = [
                (mine and not mine_sparse) or (theirs and not theirs_sparse)
                for mine, mine_sparse, theirs, theirs_sparse in zip(
                    self.some, self.sparse, other.some, other.sparse, strict=True
                )
            ]
            some = list(map(operator.or_, self.some, other.some))
            self.sparse = [is_some and not is_dense for is_some, is_dense in zip(some, dense, strict=True)]
        self.some = list(map(operator.or_, self.some, other.some))

    def over(self, processes: Processes, device: torch.device) -> "Reached":
        """The union over all processes."""
        dense = [some and not sparse for some, sparse in zip(self.some, self.sparse, strict=True)]
        flags = torch.tensor([self.some, dense], dtype=torch.float32, device=device)
        some, dense = (processes.sum(flags) > 0).tolist()
        return Reached(some, [is_some and not is_dense for is_some, is_dense in zip(some, dense, strict=True)])
