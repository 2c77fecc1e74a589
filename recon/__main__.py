"""``python -m recon`` is the command ``recon``."""

from recon.cli.dispatch import main

main()
