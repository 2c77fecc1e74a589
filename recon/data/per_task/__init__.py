"""One data set per task, joined into batches ``{task: (inputs, target)}``; imports tasks."""

from recon.data.per_task.loader import Mode, TaskLoader
from recon.data.per_task.module import PerTask

__all__ = ["Mode", "PerTask", "TaskLoader"]
