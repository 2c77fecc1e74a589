"""The command ``recon``: words in, calls out; imports everything else, when a command needs it.

This file imports nothing: :mod:`recon.cli.startup` comes before any import.
"""


def main(arguments: "list[str] | None" = None) -> None:
    """Run a command as the shell would; bad input ends it with a plain message and status 1.

    Args:
        arguments: The words after ``recon``; by default those of this process.
    """
    from recon.cli import dispatch

    dispatch.main(arguments)
