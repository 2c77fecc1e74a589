"""Tables as HTML that looks the same in every notebook, with all names escaped."""

from collections.abc import Sequence
from html import escape

_BAR = "display:inline-block;height:0.7em;background:#0072b2"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]], below: str = "") -> str:
    """Return a table as HTML. Cells are escaped, but those of :func:`bar`.

    Args:
        title: The line above it.
        header: The titles of the columns; the first column is text, the others are numbers.
        rows: The cells.
        below: A line below it.

    Example:
        >>> "&lt;fc&gt;" in table("a map", ["layer", "score"], [["<fc>", 7]])
        True
    """
    head = _row("th", header)
    body = "".join(_row("td", row) for row in rows)
    end = f"<p>{escape(below)}</p>" if below else ""
    return f"<div><p>{escape(title)}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>{end}</div>"


class Bar(str):
    """Ready HTML of a bar."""

    __slots__ = ()


def bar(share: float) -> Bar:
    """Return a bar of a share of the full length, for a cell of a table.

    >>> "width:3.00em" in bar(0.5)
    True
    """
    return Bar(f'<span style="{_BAR};width:{6 * min(max(share, 0.0), 1.0):.2f}em"></span>')


def _row(tag: str, cells: Sequence[object]) -> str:
    styles = ["left", *["right"] * (len(cells) - 1)]
    shown = [cell if isinstance(cell, Bar) else escape(str(cell)) for cell in cells]
    inner = (f'<{tag} style="text-align:{style}">{cell}</{tag}>' for style, cell in zip(styles, shown, strict=True))
    return f"<tr>{''.join(inner)}</tr>"
