"""Checks of a prepared data set: unchanged since it was made, and sound by its format."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recon.data.celeba.verification import verify_faces
from recon.data.dense.layout import MANIFEST, SPLITS, UNFINISHED, Contents, Split, verify_layout, verify_scenes
from recon.data.dense.pascal_context import CLASSES as PASCAL_CLASSES
from recon.data.dense.pascal_context import QUANTITIES
from recon.data.preparation.manifest import FORMAT, file_record
from recon.data.rooms.folder import MANIFEST as ROOMS
from recon.data.rooms.room import CLASSES
from recon.data.tabular.verification import verify_tables
from recon.errors import number_of
from recon.files.reading import read_object, require
from recon.progress import Advance, counted

_SHOWN = 10
_SAMPLE = re.compile(rf"({'|'.join(SPLITS)}|test)/\w+/\d+\.npy", re.ASCII)
"""The files of a manifest: all below its own folder."""


def verify(directory: Path) -> None:
    """Check a prepared data set: every file's presence and checksum, then shapes and ranges.

    A folder without manifest.json, which somebody else prepared, is checked for shapes and ranges
    only. A folder of tables (Census-Income, Yeast) is read whole, and its rows are counted.

    Args:
        directory: Folder of the data set.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory} is no folder; give one that holds {' and '.join(SPLITS)}")
    if tables := list(verify_tables(directory)):
        print("\n".join(tables))
        return
    if (directory / MANIFEST).exists():
        manifest = read_object(directory / MANIFEST)
        _check_files(directory, manifest)
        if manifest.get("dataset") == "celeba":
            settings = require(manifest, "settings", (dict,), MANIFEST)
            print("\n".join(verify_faces(directory, require(settings, "height", (int,), MANIFEST))))
            return
    elif (directory / UNFINISHED).exists():
        raise ValueError(f"{directory} is unfinished; the 'recon data prepare' that began it goes on with it")
    else:
        print(f"{directory} has no {MANIFEST}, so there are no checksums to check")
    if (directory / SPLITS[0] / "parts").is_dir():
        _check_pascal_context(directory)
        return
    for classes in _label_classes(directory):
        _check_contents(directory, classes)


def _check_files(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse a folder with other files than those of the manifest."""
    path = directory / MANIFEST
    if (version := require(manifest, "format", (int,), str(path))) != FORMAT:
        raise ValueError(f"{path} is of format {version}; this version of recon knows format {FORMAT}")
    files = require(manifest, "files", (dict,), str(path))
    if foreign := [name for name in files if not _SAMPLE.fullmatch(name)]:
        raise ValueError(f"{path} names {foreign[0]!r}, which is no array of a sample; prepare the data set again")
    wrong = [*_damaged(directory, files), *_unknown(directory, files)]
    if wrong:
        rest = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise ValueError(
            f"{directory} is not as it was prepared:\n"
            + "\n".join(wrong[:_SHOWN])
            + rest
            + "\nremove it, and prepare it again"
        )
    print(f"{number_of(len(files), 'file')} as they were prepared")


def _damaged(directory: Path, files: Mapping[str, Any]) -> Iterator[str]:
    for name, record in counted(list(files.items()), "checksums", "file"):
        path = directory / name
        if not path.is_file():
            yield f"{path} is missing"
        elif (found := file_record(path)) != record:
            what = "bytes" if not isinstance(record, dict) or found["bytes"] != record.get("bytes") else "sha256"
            yield f"{path} has changed: its {what} differs from {MANIFEST}"


def _unknown(directory: Path, files: Mapping[str, Any]) -> Iterator[str]:
    for path in sorted(directory.glob("*/*/*.npy")):
        if path.relative_to(directory).as_posix() not in files:
            yield f"{path} is not in {MANIFEST}"


def _label_classes(directory: Path) -> list[int]:
    """The number of classes in each folder of labels.

    A folder ``label`` holds 7, but 13 where there are normals too (NYUv2) and the rooms are not
    built-in ones.
    """
    if (directory / ROOMS).exists():
        return [len(CLASSES)]
    train = directory / SPLITS[0]
    named = [classes for classes in (7, 19) if (train / f"label_{classes}").is_dir()]
    return named or [13 if (train / "normal").is_dir() else 7]


def _check_contents(directory: Path, classes: int) -> None:
    normals = (directory / SPLITS[0] / "normal").is_dir()
    with Advance(f"{classes} classes", "image") as advance:
        contents = verify_layout(directory, classes, normals=normals, progress=advance.reach)
    _tell(contents, classes)


def _check_pascal_context(directory: Path) -> None:
    with Advance("tasks", "image") as advance:
        contents = verify_scenes(directory, QUANTITIES, progress=advance.reach)
    _tell(contents, PASCAL_CLASSES)


def _tell(contents: Mapping[Split, Contents], classes: int) -> None:
    for split, found in contents.items():
        truth = ", ".join(f"{task} {fraction:.1%}" for task, fraction in found.truth.items())
        print(f"{split}: {number_of(found.scenes, 'image')}, {classes} classes; pixels with truth: {truth}")
