"""The loggers of a benchmark's runs: a CSV file always, and those that a plan asks for."""

import inspect
from pathlib import Path
from pydoc import locate
from typing import Any

from pytorch_lightning import loggers
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from recon.configuration import build_object

_SET_RUN_BY_RUN = ("save_dir", "name", "run_name", "version")


def loggers_of(value: Any, folder: Path, run: str) -> list[Logger]:
    """The loggers of a run, each with the run's folder and name.

    Args:
        value: ``trainer.logger`` of a plan: ``class_path`` and ``init_args``, or a list of these;
            ``None`` or a boolean for the CSV file alone.
        folder: Folder of the run.
        run: Its id.

    Raises:
        ValueError: There is no such class, it refuses its arguments, its package is not installed,
            or the plan sets folder, name or version, which differ from run to run.

    Example:
        >>> [type(logger).__name__ for logger in loggers_of(None, Path("here"), "joint-seed0")]
        ['CSVLogger']
    """
    asked = [] if value is None or isinstance(value, bool) else value if isinstance(value, list) else [value]
    built = [_built(each, folder, run) for each in asked]
    return [CSVLogger(folder, name="logs"), *(logger for logger in built if not isinstance(logger, CSVLogger))]


def _built(value: Any, folder: Path, run: str) -> Logger:
    key = "fit.trainer.logger"
    given: dict[str, Any] = value if isinstance(value, dict) else {"class_path": value}
    path = given.get("class_path")
    cls: Any = getattr(loggers, path, None) or locate(path) if isinstance(path, str) else None
    if not inspect.isclass(cls) or not issubclass(cls, Logger):
        raise ValueError(
            f"{key} is {value!r}, which is no logger; give class_path, such as TensorBoardLogger or WandbLogger, and "
            "init_args"
        )
    arguments = dict(given.get("init_args") or {})
    for name in _SET_RUN_BY_RUN:
        if name in arguments:
            raise ValueError(f"{key}.init_args.{name} is set by the benchmark, run by run; leave it out")
    own = {"save_dir": str(folder), "run_name": run, "name": "tensorboard" if cls is TensorBoardLogger else run}
    known = inspect.signature(cls).parameters
    arguments |= {name: setting for name, setting in own.items() if name in known}
    kind: Any = Logger  # an abstract class, which its loggers derive from
    try:
        return build_object(kind, {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments}, key)
    except ModuleNotFoundError as error:
        raise ValueError(f"{key}: {cls.__name__} needs a package that is not installed: {error}") from error
