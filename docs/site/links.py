"""Every link of the built site: the file and the heading are there, and other sites are well named.

MkDocs checks the links of pages; here are the links of docstrings, menus and pictures too.
"""

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

from mkdocs.plugins import get_plugin_logger

_LINK = re.compile(r'<(?:a|img|link|script|source)\b[^>]*?\s(?:href|src)="?([^"\s>]+)')
_ANCHOR = re.compile(r'\s(?:id|name)="?([^"\s>]+)')

log = get_plugin_logger("links")


def on_post_build(config: Any) -> None:
    """Warn of each link that leads nowhere; a strict build fails on it."""
    site = Path(config.site_dir)
    texts = {page: page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}
    anchors = {page: set(_ANCHOR.findall(text)) for page, text in texts.items()}
    for page, text in texts.items():
        for link in sorted({unescape(link) for link in _LINK.findall(text)}):
            if problem := _problem(link, page, anchors):
                log.warning("%s: %s: %s", page.relative_to(site), problem, link)


def _problem(link: str, page: Path, anchors: dict[Path, set[str]]) -> str:
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        return "" if re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) else "no address of a site"
    if parts.scheme:
        return "" if parts.scheme in ("data", "mailto") else "neither a page nor a site"
    path, anchor = urldefrag(link)
    target = (page.parent / unquote(path)).resolve() if path else page
    if not target.is_file():
        return "no such file"
    return "" if not anchor or target not in anchors or unquote(anchor) in anchors[target] else "no such heading"
