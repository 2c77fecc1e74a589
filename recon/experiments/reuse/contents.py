"""The identity of data by content: changed labels make other data, a copy elsewhere is the same.

A data module that reads files lists them by a method ``files_read() -> {name: path}``. The name
stands for the file wherever its folder is. Checksums are kept in the user's cache with each file's
path, size, times and inode, so only changed files are read again.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule

from recon.data.cache import is_writable, user_cache
from recon.data.contract import reads_files
from recon.files.atomic import write_json
from recon.files.checksum import check_seal, sealed
from recon.files.reading import open_regular, read_object
from recon.progress import Advance

_FORMAT = 1


def content_of(data: LightningDataModule) -> str | None:
    """The SHA-256 of all files that a data module reads; ``None`` if it does not list them.

    The data must have been prepared.
    """
    if not reads_files(data):
        return None
    sums = _checksums({name: path.absolute() for name, path in data.files_read().items()})
    digest = hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()
    return f"sha256:{digest}"


def _checksums(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file, by name."""
    everything = hashlib.sha256("\n".join(sorted(map(str, files.values()))).encode()).hexdigest()
    kept = user_cache() / "checksums" / f"{everything[:16]}.json"
    known, now = _known(kept), {name: _state(path) for name, path in files.items()}
    changed = [name for name, state in now.items() if known.get(str(files[name]), {}).get("state") != state]
    sums = {name: known[str(path)]["sha256"] for name, path in files.items() if name not in set(changed)}
    read, size = 0, sum(now[name][0] for name in changed)
    with Advance("checksums of the data", unit="megabyte") as advance:
        for name in changed:
            with open_regular(files[name]) as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
            read += now[name][0]
            advance.reach(read // 10**6, size // 10**6)
    if changed and is_writable(kept.parent):
        records = {str(path): {"state": now[name], "sha256": sums[name]} for name, path in files.items()}
        write_json(kept, sealed({"format": _FORMAT, "files": records}))
    return sums


def _state(path: Path) -> list[int]:
    """Values that change when a file is written, even if its modification time is set back."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _known(kept: Path) -> dict[str, Any]:
    """The kept checksums by path; empty if their file is absent or damaged."""
    try:
        record = read_object(kept)
        return record["files"] if check_seal(record) and record.get("format") == _FORMAT else {}
    except (OSError, ValueError):
        return {}
