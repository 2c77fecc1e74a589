"""One attempt at a job, in the process that carries it out."""

import traceback

from recon.experiments.executors.executor import Died, Failed, Finished
from recon.experiments.job import Job
from recon.experiments.run import OnEpoch, execute
from recon.files.atomic import write_atomically
from recon.launching.ends import ProcessDied


def attempt(job: Job, on_epoch: OnEpoch) -> Finished | Failed | Died:
    """Carry out a job; keep the traceback of an error in the run's folder.

    Args:
        job: The job, which resumes from its last checkpoint if it has one.
        on_epoch: Called with the number of finished epochs.

    Returns:
        How it ended; ``Died`` if a process that trained with others is gone.
    """
    trace = job.folder.error(job.run.id)
    trace.unlink(missing_ok=True)
    try:
        return Finished(execute(job, on_epoch))
    except ProcessDied as death:
        return Died(death.how)
    except Exception as error:
        write_atomically(trace, traceback.format_exc())
        # Not the error itself: not every one can be sent to another process.
        return Failed(f"{type(error).__name__}: {error} ({trace} shows where)")
