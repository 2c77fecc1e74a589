"""Names that every common file system accepts for one folder."""

_LONGEST_NAME = 150  # bytes; file systems take 255, and more is added to it


_NO_FOLDER = set('/\\<>:"|?*')


def check_folder_name(name: str, what: str) -> None:
    """Check that every common file system accepts a name for one folder, and for no other place.

    Args:
        name: The name.
        what: The thing that is named, for the error.

    Raises:
        ValueError: The name is empty or long, leads elsewhere (``../x``), or has characters that
            some file system refuses.
    """
    strange = sorted(letter for letter in set(name) if letter in _NO_FOLDER or not letter.isprintable())
    if strange:
        reason = f"has {', '.join(map(repr, strange))}"
    elif len(name.encode()) > _LONGEST_NAME:
        reason = f"has {len(name.encode())} bytes, more than {_LONGEST_NAME}"
    elif name.strip() != name or name.strip(".") != name or not name:
        reason = "is empty, or begins or ends with a space or a point"
    else:
        return
    raise ValueError(f"the {what} is {name!r}, which {reason}, so no folder can bear it; give another name")
