"""Modules of the user's own that ``--import`` names: they may register methods."""

from collections.abc import Iterator

from recon.plugins import append_working_folder, import_by_name

imported: list[str] = []  # modules named by --import, which worker processes import too


def take_imports(arguments: list[str]) -> list[str]:
    """Import what ``--import`` names; the other arguments are returned."""
    imported.clear()
    rest = []
    words = iter(arguments)
    for word in words:
        if word == "--import" or word.startswith("--import="):
            _import(_value(word, words))
        else:
            rest.append(word)
    return rest


def _value(flag: str, words: Iterator[str]) -> str:
    """The value of a flag, written ``--flag=value`` or ``--flag value``."""
    return flag.split("=", 1)[1] if "=" in flag else next(words, "")


def _import(name: str) -> None:
    append_working_folder()
    import_by_name(name)
    imported.append(name)
