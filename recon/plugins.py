"""Optional packages, imported when they are first used; without one, the error says what to install."""

from collections.abc import Iterator
from contextlib import contextmanager


class PackageMissingError(ImportError, ValueError):
    """An optional package is not installed; a ValueError too, because the command line says these in one line."""


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Run imports of an optional package.

    >>> with needs("h5py", extra="data"):
    ...     import h5py

    Args:
        package: The package.
        extra: The extra of `setup.cfg` that has it.

    Raises:
        PackageMissingError: It is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise PackageMissingError(
            f"{package} is not installed; in the folder of Recon's checkout: pip install -e '.[{extra}]'"
        ) from error
