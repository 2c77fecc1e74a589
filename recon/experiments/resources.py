"""The resources that a run takes of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Resources:
    """The part of a machine that a run is given on a cluster, for as long as it goes on.

    >>> Resources(gpus=0.5).over(Resources(cpus=4)).amounts()
    {'CPU': 4, 'GPU': 0.5}

    Attributes:
        cpus: Cores, which are also the threads of the run.
        gpus: GPUs; a part such as 0.5 lets two runs share one.
        memory: Memory in GiB.
        custom: Other resources of the cluster by name, such as ``accelerator_type:A100``.
    """

    cpus: float | None = None
    gpus: float | None = None
    memory: float | None = None
    custom: dict[str, Any] = field(default_factory=dict)

    def over(self, others: "Resources") -> "Resources":
        """These resources, and those of ``others`` where nothing is said here."""
        return Resources(
            others.cpus if self.cpus is None else self.cpus,
            others.gpus if self.gpus is None else self.gpus,
            others.memory if self.memory is None else self.memory,
            {**others.custom, **self.custom},
        )

    def amounts(self) -> dict[str, float]:
        """Amounts by Ray's names; memory in bytes. Nothing is said of those that are zero."""
        memory = None if self.memory is None else self.memory * 2**30
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "memory": memory, **self.custom}
        return {name: amount for name, amount in amounts.items() if amount}

    def fit_in(self, machine: Mapping[str, float]) -> int:
        """How many such runs a machine can carry out at a time.

        >>> Resources(cpus=1, gpus=0.3).fit_in({"CPU": 8, "GPU": 1})
        3

        Args:
            machine: Its amounts by Ray's names.
        """
        # Just above the quotient, as 1 / 0.1 may be a little less than 10 in other cases.
        return min((int(machine.get(name, 0) / amount + 1e-9) for name, amount in self.amounts().items()), default=1)

    def check(self, whose: str) -> None:
        """Check the amounts.

        Args:
            whose: Whose they are, for the error.

        Raises:
            ValueError: One is negative, or a number of GPUs is above one and not whole.
        """
        named = {"cpus": self.cpus, "gpus": self.gpus, "memory": self.memory, **self.custom}
        for name, amount in named.items():
            if amount is not None and (type(amount) not in (int, float) or not 0 <= amount < float("inf")):
                raise ValueError(f"{whose} has {name}: {amount!r}; give a number from 0")
        if self.gpus is not None and self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"{whose} has gpus: {self.gpus}; give a part of one, or a whole number")

    def __str__(self) -> str:
        units = {"cpus": self.cpus, "gpus": self.gpus, "GiB of memory": self.memory, **self.custom}
        return ", ".join(f"{amount:g} {name}" for name, amount in units.items() if amount) or "nothing"
