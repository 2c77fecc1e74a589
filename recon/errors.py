"""The words of messages: unknown names with the nearest, numbers of things, errors in one line."""

from argparse import ArgumentError
from collections.abc import Iterable
from difflib import get_close_matches


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> ValueError:
    """Build the error for a name that is not among the known ones.

    Args:
        kind: The kind of thing that the name stands for, e.g. ``"layer"``.
        name: The name that was given.
        known: The names that exist.
        where: The place that was searched, e.g. ``"ResNet"``; left out of the message when empty.

    Example:
        >>> unknown_name("layer", "layer1.0.con1", ["layer1.0.conv1", "fc"], where="ResNet")
        ValueError("unknown layer 'layer1.0.con1' in ResNet; nearest: 'layer1.0.conv1'")
    """
    known = list(known)
    # Names with an extra or missing prefix ("backbone.conv1") are common, and difflib's ratio alone
    # misses them.
    parts = [other for other in known if other and (other in name or name in other)]
    nearest = get_close_matches(name, known, n=3) or parts[:3]
    place = f" in {where}" if where else ""
    if nearest:
        cure = "nearest: " + ", ".join(repr(other) for other in nearest)
    elif not known:
        cure = "there is none"
    else:
        cure = f"known: {', '.join(map(repr, known[:20]))}{', ...' if len(known) > 20 else ''}"
    return ValueError(f"unknown {kind} {name!r}{place}; {cure}")


def number_of(count: int, thing: str, several: str = "") -> str:
    """A number of things in words, for lines that people read.

    Args:
        count: The number.
        thing: The thing, in the singular.
        several: Its plural, if it takes more than an s.

    Example:
        >>> number_of(1, "observed step"), number_of(0, "pair"), number_of(2, "copy", "copies")
        ('1 observed step', '0 pairs', '2 copies')
    """
    return f"{count} {thing if count == 1 else several or thing + 's'}"


class NotFinite(ValueError):
    """A loss, gradient or metric that is NaN or infinite, as after training has diverged.

    >>> issubclass(NotFinite, ValueError)
    True
    """


def in_one_line(error: BaseException) -> str:
    """Word an error; one that no check of Recon raised also says its type.

    Args:
        error: The error.

    Example:
        >>> in_one_line(ValueError("top must be at least 1")), in_one_line(KeyError("seg"))
        ('top must be at least 1', "KeyError: 'seg'")
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ArgumentError | ValueError | TypeError | RuntimeError | OSError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"
