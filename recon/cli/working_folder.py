"""Classes of the working folder: the folder joins the path only if a command line names one.

If it were always on the path, a stranger's ``rich.py`` beside the data would be taken for the
package.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recon.files.reading import open_regular
from recon.plugins import append_working_folder

_DOTTED = re.compile(r"(?<![\w./-])([^\W\d]\w*)\.([^\W\d]\w*)")
_CONFIGURATION = (".yaml", ".yml", ".json")
_FILES = (*_CONFIGURATION, ".ckpt")


def append_working_folder_for(words: Sequence[str]) -> None:
    """Append the working folder to the path if the words of a command line name a class of it.

    Configurations that the words name are read too.
    """
    texts = [text for word in words for text in _texts(word.partition("=")[2] if "=" in word else word, Path())]
    if any(_is_there(*name) for text in texts if not _is_path(text) for name in _DOTTED.findall(text)):
        append_working_folder()


def _is_path(text: str) -> bool:
    """Whether a text names a file or folder: ``last.ckpt`` is no class of a module ``last``."""
    return text.endswith(_FILES) or ("\0" not in text and os.path.lexists(text))


def _is_there(module: str, attribute: str) -> bool:
    """Whether ``module.attribute`` can only be of the working folder."""
    package = Path(module)
    here = (package.with_suffix(".py"), package / "__init__.py", package / f"{attribute}.py", package / attribute)
    return any(path.exists() for path in here) and module not in sys.modules and find_spec(module) is None


def _texts(value: Any, folder: Path, depth: int = 4) -> Iterator[str]:
    """All text in a value, and in the configurations that it names."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _texts(part, folder, depth)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, folder, depth)
    elif isinstance(value, str):
        yield value
        if value.endswith(_CONFIGURATION) and depth:
            path = next((path for path in (folder / value, Path(value)) if path.is_file()), None)
            if path is not None:
                yield from _texts(_content(path), path.parent, depth - 1)


def _content(path: Path) -> Any:
    """The content of a configuration; ``None`` if it cannot be read, reported elsewhere."""
    import yaml

    try:
        with open_regular(path) as file:
            return yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
