"""Checkpoints: written whole, and safe to read from anybody.

Nothing of a file is executed: only tensors, containers, numbers and strings are unpickled. Nothing
of a damaged file is used: torch does not compare an archive's content with its checksums, so a
flipped bit would become a weight.
"""

from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from recon.files.atomic import atomic_path
from recon.files.reading import open_regular

_CURE = "give another checkpoint; if the run was to go on from this one, remove it, and the run begins anew"
_HANDED_BACK = ".temp.ckpt"
"""Lightning's name for the weights that spawned or forked processes hand back; no more is in it."""
_NEEDED = {"state_dict", "epoch", "global_step"}


class WholeCheckpoints(CheckpointIO):
    """Replaces checkpoints whole, and reads them with :func:`read_checkpoint`.

    Lightning's own plugin copies them from the temporary folder if that is another disk, and may
    unpickle code.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)  # by name it would write the temporary one into the archive

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The content of a checkpoint. Whatever ``weights_only`` says, only data are unpickled."""
        return (
            _read_data(path, map_location) if Path(path).name == _HANDED_BACK else read_checkpoint(path, map_location)
        )

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The content of a Lightning checkpoint of any origin.

    Args:
        path: A file of this machine.
        map_location: Where its tensors go, as ``torch.load`` takes it.

    Raises:
        ValueError: There is no such file, or it is empty, truncated, damaged or no checkpoint, or
            it needs code to be run.
    """
    content = _read_data(path, map_location)
    if not isinstance(content, dict) or not content.keys() >= _NEEDED:
        raise ValueError(f"{path} is no checkpoint of a run: it lacks one of {', '.join(sorted(_NEEDED))}; {_CURE}")
    return content


def _read_data(path: str | Path, map_location: Any) -> Any:
    """The data in a file of torch, of which nothing is executed."""
    try:
        opened = open_regular(path)
    except OSError as error:
        raise ValueError(
            f"cannot read the checkpoint {path} ({error.strerror}); give a file of this machine"
        ) from error
    with opened as file:
        try:
            _check_archive(file)
        except (BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"{path} is damaged, or no checkpoint ({error}); {_CURE}") from error
        file.seek(0)
        try:
            content = torch.load(file, map_location, weights_only=True)
        except UnpicklingError as error:
            raise ValueError(f"{path} holds more than data, which is not loaded ({_reason(error)}); {_CURE}") from error
        except Exception as error:  # torch raises whatever a strange archive leads it to
            raise ValueError(f"{path} is no checkpoint ({type(error).__name__}: {_reason(error)}); {_CURE}") from error
    return content


def _check_archive(file: IO[bytes]) -> None:
    """Compare every member of an archive with its checksum, and its directory with torch's form."""
    with ZipFile(file) as archive:
        members = archive.infolist()
        if not members:
            raise BadZipFile("it is empty")
        if len({member.filename for member in members}) < len(members):
            raise BadZipFile("two members have one name")
        for member in members:
            # torch would leave the tensor of what is marked as a folder as it finds the memory
            if member.compress_type != ZIP_STORED or member.external_attr != 0:
                raise BadZipFile(f"torch has not written {member.filename!r} like that")
        if (damaged := archive.testzip()) is not None:
            raise BadZipFile(f"the checksum of {damaged!r} differs")


def _reason(error: Exception) -> str:
    """The cause in torch's error, without the page of advice around it."""
    lines = [line.strip() for line in str(error).partition("WeightsUnpickler error:")[2].splitlines() or [str(error)]]
    return next(filter(None, lines), type(error).__name__)[:200]
