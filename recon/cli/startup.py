"""Preparations before any other import, if this process is the command ``recon``.

``python -m recon`` puts the working folder first on the path, where a stranger's ``torch.py`` would
be taken for torch. Importing torch takes seconds, in which Ctrl-C must end the process quietly.
``recon --version`` needs nothing of it, and is answered at once.
"""

import os
import sys


def prepare() -> None:
    """In the command's process, take the working folder off the path and let Ctrl-C end it."""
    by_name = os.path.basename(sys.argv[0]) in ("recon", "recon.exe") if sys.argv else False
    as_module = sys.argv[:1] == ["-m"] and _module(sys.orig_argv).split(".")[0] == "recon"
    if as_module and not sys.flags.safe_path:
        _move_working_folder()
    if by_name or as_module:
        import signal  # not before the path is as it should be

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if sys.argv[1:] == ["--version"]:
            tell_version()
            sys.exit()


def tell_version() -> None:
    """Print the version of Recon."""
    from recon.version import __version__

    print(f"recon {__version__}")


def listen_to_interrupts() -> None:
    """Make Ctrl-C raise ``KeyboardInterrupt`` again."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _module(words: list[str]) -> str:
    """The module of ``python -m MODULE``, from the interpreter's command line."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("-m"):
            return word[2:] or following
    return ""


def _move_working_folder() -> None:
    """Take the working folder off the path; put it last if this package itself is in it."""
    first = sys.path.pop(0)
    package = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    if os.path.realpath(first or os.curdir) == os.path.dirname(package):
        sys.path.append(first)


prepare()
