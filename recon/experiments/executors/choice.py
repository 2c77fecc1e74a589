"""The executor that the command line names."""

from typing import Literal

from recon.experiments.executors.executor import Executor
from recon.experiments.executors.local import LocalExecutor
from recon.experiments.executors.ray import RayExecutor
from recon.experiments.fit import devices_of
from recon.experiments.plan import Plan
from recon.experiments.resources import Resources


def executor_of(
    name: Literal["local", "ray"],
    plan: Plan,
    jobs: int | None = None,
    address: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
) -> Executor:
    """An executor for the runs of a plan.

    >>> type(executor_of("local", Plan("tiny", {}, ()))).__name__
    'LocalExecutor'

    Args:
        name: ``local`` for processes of this machine, ``ray`` for a Ray cluster.
        plan: The plan.
        jobs: Runs at a time.
        address: Address of the Ray cluster.
        cpus: Cores that each run takes of it.
        gpus: GPUs that each run takes of it.

    Raises:
        ValueError: An option of Ray is given for local processes, or the executor refuses one.
    """
    if name == "ray":
        return RayExecutor(plan, address, jobs, Resources(cpus, gpus))
    for option, value in (("address", address), ("cpus", cpus), ("gpus", gpus)):
        if value is not None:
            raise ValueError(f"--{option} is for a Ray cluster; add --executor ray, or leave it out")
    return LocalExecutor(jobs, plan.imports, devices_of(plan.fit))
