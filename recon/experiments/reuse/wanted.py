"""What the runs of a plan are, as far as their layers can be chosen by now."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from recon.experiments.choice import keep_setting
from recon.experiments.folder import ResultsFolder
from recon.experiments.job import Job
from recon.experiments.reuse.identity import RunIdentity, request_of
from recon.experiments.reuse.plan_record import IDENTITY
from recon.experiments.runs import Run
from recon.files.atomic import write_json
from recon.files.reading import read_object
from recon.tasks.task import Task


class WantedRuns:
    """The identities of the runs of a plan, kept once they are known.

    Layers take a while to choose, so an identity in the place of a run answers if it is of the same
    request (:func:`recon.experiments.reuse.identity.request_of`).

    Args:
        folder: The folder of the results.
        content: The identity of the data.
        tasks: The tasks of the plan.
    """

    def __init__(self, folder: ResultsFolder, content: str | None, tasks: Sequence[Task]) -> None:
        self._folder = folder
        self._content = content
        self._tasks = tasks
        self._requests: dict[str, str] = {}
        self._known: dict[str, RunIdentity] = {}

    def __contains__(self, run: Run) -> bool:
        return run.id in self._known

    def __getitem__(self, run: Run) -> RunIdentity:
        return self._known[run.id]

    def same(self, wanted: str) -> Iterator[str]:
        """Ids of the known runs of a hash."""
        return (run_id for run_id, identity in self._known.items() if identity.hash == wanted)

    def find(self, job: Job) -> bool:
        """Find out what a job is, whose needed runs are finished; whether that is known now."""
        if job.run not in self:
            try:
                if job.run.point is not None:
                    trials = [self._known[run_id].hash for run_id in job.run.grid]
                    keep_setting(job.run.entry, job.run.point, trials, self._folder, self._tasks)
                self._requests[job.run.id] = request_of(job, self._content)
                self._known[job.run.id] = self._answer(job)
            except (OSError, ValueError):
                return False  # the run itself fails by it, and says so
        return True

    def write(self, path: Path, run: Run) -> None:
        """Write the identity of a known run into a folder."""
        write_json(path / IDENTITY, self[run].sealed(self._requests[run.id]))

    def remember(self, run: Run) -> None:
        """Keep the request beside the identity of the run in place, for the next start."""
        file = self._folder.run(run.id) / IDENTITY
        if file.exists() and read_object(file).get("request") != self._requests[run.id]:
            self.write(file.parent, run)

    def _answer(self, job: Job) -> RunIdentity:
        """The identity of a job: that in its place, which is intact, if the request is the same."""
        file = self._folder.run(job.run.id) / IDENTITY
        if file.exists() and read_object(file).get("request") == self._requests[job.run.id]:
            return RunIdentity.load(file)
        return RunIdentity.of(job, self._content)
