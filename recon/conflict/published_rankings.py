"""The layer rankings published with the paper; their names stand wherever a map's file can."""

from os import PathLike
from pathlib import Path

from recon.errors import unknown_name

_FOLDER = Path(__file__).parent / "published"


def published_rankings() -> list[str]:
    """Return the names of the rankings that were published with the paper.

    Example:
        >>> published_rankings()
        ['cityscapes-segnet', 'multi-fashion-mnist-resnet18', 'nyuv2-mtan']
    """
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def map_file(path: str | PathLike[str]) -> Path:
    """Return the file of a map, given by its path or by the name of a published ranking.

    A file of that name comes first; a folder of that name does not count.

    Raises:
        FileNotFoundError: There is neither.

    Example:
        >>> map_file("nyuv2-mtan").name
        'nyuv2-mtan.json'
    """
    given = Path(path)
    if given.exists() and not given.is_dir():
        return given
    if str(path) in published_rankings():
        return _FOLDER / f"{path}.json"
    reason = "it is a folder" if given.is_dir() else f"the path is relative to {Path.cwd()}"
    ranking = unknown_name("published ranking", str(path), published_rankings())
    raise FileNotFoundError(f"there is no conflict map {path}; {reason}; as a name: {ranking}")
