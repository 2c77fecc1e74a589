"""Figures and pictures as parts of an HTML page, which needs no other file."""

import base64
import io
import re
from html import escape
from pathlib import Path

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

_WIDEST = 1100
"""Width in pixels to which pictures are reduced."""


def inline_svg(figure: Figure, label: str) -> Markup:
    """Return a figure as SVG that stands in HTML, with its letters as text.

    Args:
        figure: The figure.
        label: What it shows, for readers who hear the page. It also keeps the names inside apart
            from those of other figures.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}):
        figure.savefig(
            stream, format="svg", dpi=150, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
    text = stream.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    referred = set(re.findall(r"#([\w.-]+)", text))

    def tidy(tag: re.Match[str]) -> str:
        kept = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", tag[0])
        return re.sub(r"'DejaVu Sans'(?:, '[^']*'|, [\w ]+)*", "Verdana, 'DejaVu Sans', sans-serif", kept)

    text = re.sub(r"<[^>]+>", tidy, text)
    text = re.sub(r"\n\s*", "\n", text)
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))


def data_address(picture: Path) -> str:
    """Return a PNG as the address of its own content, reduced to the width of a page.

    Raises:
        ValueError: The file is no picture.
    """
    from PIL import Image

    try:
        with Image.open(picture) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{picture} is no picture ({error}); remove it, or repeat the run") from error
    if image.width > _WIDEST:
        image = image.resize((_WIDEST, round(image.height * _WIDEST / image.width)))
    stream = io.BytesIO()
    image.save(stream, format="WEBP", quality=78, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
