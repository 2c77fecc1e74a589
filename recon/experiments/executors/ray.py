"""The executor of a Ray cluster: each run is a task, which Ray places on a machine with room."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any, Self

from recon.experiments.executors.address import check_answers
from recon.experiments.executors.executor import Died, Epochs, Failed, Finished, Lost, Message
from recon.experiments.executors.on_worker import Surroundings, carry_out, mailbox_class
from recon.experiments.fit import devices_of
from recon.experiments.folder import result_file
from recon.experiments.job import Job
from recon.experiments.plan import Plan
from recon.experiments.progress import tell
from recon.experiments.resources import Resources
from recon.plugins import needs

_PATIENCE = 1.0  # seconds until the epochs of runs are asked for
_END = 10.0  # seconds for cancelled tasks to end
_SHARED = 60.0  # seconds after which a file must be seen that another machine has written


class RayExecutor:
    """Carries out the runs of a benchmark on a Ray cluster; an ``Executor``.

    The folder of the benchmark, the data and the modules of ``imports`` must be on a file system
    that all machines share. The machines need the same versions of Python, Ray and Recon. The run
    of a worker or a machine that dies resumes on another, from its last checkpoint.

    Args:
        plan: The plan whose runs it carries out.
        address: ``HOST:PORT`` of the cluster, or ``auto`` for the one of this machine. By default
            the one of ``RAY_ADDRESS``, else of this machine, else one of this machine's cores that
            ends with the benchmark.
        jobs: Runs at a time; by default as many as the cluster has room for. Give more if the
            cluster grows when runs wait.
        resources: What each run takes; an entry of the plan may say otherwise. By default a core
            for each of the run's processes, and a GPU too if the cluster has any and the plan's
            ``accelerator`` is not ``cpu``.

    Raises:
        PackageMissingError: Ray is not installed.
        ValueError: No cluster answers at the address, or a number is out of range.
    """

    def __init__(
        self, plan: Plan, address: str | None = None, jobs: int | None = None, resources: Resources | None = None
    ) -> None:
        with needs("ray", extra="ray"):
            import ray
        if jobs is not None and jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        self._ray: Any = ray
        self._fit = plan.fit
        self._resources = resources or Resources()
        self._resources.check("the executor")
        self._jobs = jobs
        self._address = address or os.environ.get("RAY_ADDRESS")
        if not ray.is_initialized():
            check_answers(self._address)
        self._numbers = count()
        self._going: dict[Any, tuple[int, Job]] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            try:
                self._ray.init(self._address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = " ".join(str(error).split())
                raise ValueError(
                    f"Ray cannot connect to {self._address or 'a cluster'}: {reason}; `ray status` tells of clusters"
                ) from error
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self._ray.get_runtime_context().get_node_id(), soft=True)
        mailbox = self._ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(mailbox_class())
        self._mailbox = mailbox.remote()
        self._carry_out = self._ray.remote(max_retries=0)(carry_out)
        self._resources = self._resources.over(self._default())
        return self

    def __exit__(self, *error: object) -> None:
        for task in self._going:
            self._ray.cancel(task, force=True)
        if self._going:
            self._ray.wait([*self._going], num_returns=len(self._going), timeout=_END)
        self._ray.kill(self._mailbox)
        if self._is_own:
            self._ray.shutdown()

    @property
    def free(self) -> int:
        """How many more jobs can begin now."""
        room = self._jobs
        if room is None:
            room = max(1, sum(self._resources.fit_in(machine) for machine in self._machines()))
        return max(0, room - len(self._going))

    @property
    def busy(self) -> bool:
        """Whether any job is going on."""
        return bool(self._going)

    def begin(self, job: Job) -> None:
        """Give a job to the cluster."""
        own = (job.run.entry.resources or Resources()).over(self._resources)
        if not any(own.fit_in(machine) for machine in self._machines()):
            self._tell_once(f"no machine of the cluster has {own} for a run; such runs wait until one joins")
        amounts = own.amounts()
        known = {"num_cpus": amounts.pop("CPU", 0), "num_gpus": amounts.pop("GPU", 0)}
        options = {**known, "memory": amounts.pop("memory", None), "resources": amounts, "name": job.run.id}
        number, threads = next(self._numbers), max(1, int(own.cpus or 1))
        task = self._carry_out.options(**options).remote(job, Surroundings.here(), threads, self._mailbox, number)
        self._going[task] = (number, job)

    def messages(self) -> Iterator[tuple[Job, Message]]:
        """Wait a second at most; yield the messages that have come from the jobs."""
        ended, _ = self._ray.wait([*self._going], timeout=_PATIENCE)
        epochs = self._epochs()
        for number, job in self._going.values():
            if number in epochs:
                yield job, Epochs(epochs[number])
        for task in ended:
            _, job = self._going.pop(task)
            yield job, self._end(job, task)

    def _default(self) -> Resources:
        """What a run takes of which nothing is said."""
        processes = devices_of(self._fit)
        on_gpus = self._fit["trainer"].get("accelerator", "auto") != "cpu"
        has_gpus = any(machine.get("GPU") for machine in self._machines())
        return Resources(cpus=processes, gpus=processes if on_gpus and has_gpus else 0)

    def _machines(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _epochs(self) -> dict[int, int]:
        with suppress(self._ray.exceptions.RayError):  # it begins again if its machine dies
            epochs: dict[int, int] = self._ray.get(self._mailbox.take.remote(), timeout=_PATIENCE)
            return epochs
        return {}

    def _end(self, job: Job, task: Any) -> Message:
        """How a task ended."""
        errors = self._ray.exceptions
        try:
            message: Message = self._ray.get(task)
        except errors.OutOfMemoryError:
            return Died("killed by Ray, as its machine ran out of memory")
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.LocalRayletDiedError) as error:
            how = "its worker died" if isinstance(error, errors.WorkerCrashedError) else "its machine is gone"
            return Lost(how)
        except errors.RayError as error:
            return Failed(" ".join(str(error).split())[-500:])
        return _once_seen(job, message) if isinstance(message, Finished) else message

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            tell(text)


def _once_seen(job: Job, message: Finished) -> Finished | Failed:
    """A result, once this machine sees the file that another one has written.

    A network file system shows it some time later. Those who wait for the run read it here.
    """
    file, end = result_file(job.folder.run(job.run.id)), time.monotonic() + _SHARED
    while file.name not in (entry.name for entry in os.scandir(file.parent)):
        if time.monotonic() > end:
            return Failed(f"its worker wrote {file}, which is not here; give a folder that all machines share")
        time.sleep(_PATIENCE)
    return message
