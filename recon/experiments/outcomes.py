"""The outcomes of a benchmark's runs: results and failures, kept in its folder as they come."""

from collections.abc import Mapping, Sequence
from typing import Any

from recon.experiments.executors.executor import Epochs, Failed, Finished, Lost
from recon.experiments.folder import ResultsFolder
from recon.experiments.plan import Plan
from recon.experiments.report.report import Report, draw_figures, write_results
from recon.experiments.runs import Run
from recon.files.atomic import write_atomically
from recon.tasks.task import Task


class Outcomes:
    """Results and failures of the runs of a plan.

    Args:
        plan: The plan.
        tasks: Its tasks.
        folder: The folder of the results, which is held.
        results: Run -> its result, of the runs that are finished.

    Attributes:
        runs: All runs of the plan.
        results: Run -> its result, those of earlier attempts included.
        failures: Run -> the reason why it failed.
    """

    def __init__(
        self, plan: Plan, tasks: Sequence[Task], folder: ResultsFolder, results: Mapping[str, dict[str, Any]]
    ) -> None:
        self.plan = plan
        self.tasks = tasks
        self.folder = folder
        self.runs = plan.runs([task.name for task in tasks])
        self.results = dict(results)
        self.failures: dict[str, str] = {}

    def take(self, run: Run, message: Epochs | Finished | Failed | Lost) -> None:
        """Take a message about a run; keep its result or failure in the folder."""
        if isinstance(message, Finished):
            self.results[run.id] = message.result
            self._write()
        elif isinstance(message, Failed):
            self.failures[run.id] = message.reason
            if message.died:
                write_atomically(self.folder.error(run.id), f"{message.reason}\n")

    def report(self) -> Report:
        """Write results, tables and figures of the finished runs."""
        report = self._write()
        figures = draw_figures(self.plan, self._in_order(), self.tasks, self.folder)
        return Report(report.table, (*report.paths, *figures))

    def _write(self) -> Report:
        return write_results(self.plan, self._in_order(), self.tasks, self.folder)

    def _in_order(self) -> list[dict[str, Any]]:
        """The results in the order of the plan."""
        return [self.results[run.id] for run in self.runs if run.id in self.results]
