"""Code that is imported on demand: optional packages, and the user's own modules."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


class PackageMissingError(ImportError, ValueError):
    """An optional package is not installed.

    It is a ValueError too, because the command line prints these in one line.
    """


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Run imports of an optional package.

    Args:
        package: The package.
        extra: The extra of ``setup.cfg`` that installs it.

    Raises:
        PackageMissingError: The package is not installed.

    Example:
        >>> with needs("h5py", extra="data"):
        ...     import h5py
    """
    try:
        yield
    except ImportError as error:
        raise PackageMissingError(
            f"{package} is not installed; in the folder of Recon's checkout: pip install -e '.[{extra}]'"
        ) from error


def import_by_name(name: str) -> None:
    """Import a user's own module, such as one that registers methods.

    Args:
        name: Name of the module.

    Raises:
        ValueError: There is no such module, a module that it imports is missing, or it raises an
            error of its own.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"cannot import {name!r}; give a module's name, as after Python's import")
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"cannot import {name!r} ({error}); run where it can be found, or install it") from error
        raise ValueError(f"cannot import {name!r}: it imports {error.name!r}, which is not installed") from error
    except Exception as error:  # a module may raise anything
        raise ValueError(f"cannot import {name!r}: {type(error).__name__}: {error}") from error


def append_working_folder() -> None:
    """Make modules of the working folder importable, after all others of the same name."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


@contextmanager
def safe_path() -> Iterator[None]:
    """Keep the working folder off the module search path of child processes in this context."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before
