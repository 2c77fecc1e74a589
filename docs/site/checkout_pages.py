"""Pages and files of the checkout outside docs/, as a part of the site.

The pages of docs/ link to ``../README.md`` and the README to ``docs/start.md``, as the forge wants
it. Here these links lead to the pages of the site.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]

# path in the checkout -> path in the site
OUTSIDE = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
}
_INSIDE = {page: path for path, page in OUTSIDE.items()}

_FENCE = re.compile(r"(^ *```.*?^ *```$)", flags=re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#]+)")


def on_config(config: Any) -> Any:
    """Give headings the anchors that they have on the forge."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = _anchor
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that stand outside docs/."""
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Move the links of a page, but none in its blocks of code."""
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(_moved(page.file.src_uri), part) for part in parts[::2]]
    return "".join(parts)


def _anchor(title: str, separator: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", separator)


def _moved(page: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement for the links of a page: their places in the site."""
    folder = posixpath.dirname(_INSIDE.get(page, f"docs/{page}"))

    def replacement(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link[0]))
        target = OUTSIDE.get(path, path.removeprefix("docs/"))
        target = re.sub(r"\.ipynb$", ".md", target)
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return replacement
