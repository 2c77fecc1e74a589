"""The commands about single runs: fit, search, validate, test and predict."""

import warnings


def train(arguments: list[str]) -> None:
    """Run a command of Lightning's command line; ``arguments`` begins with its name."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from recon.training.command import TrainingCLI
    from recon.training.trainer import Trainer
    from recon.training.usage import FULL as FULL_HELP
    from recon.training.usage import short_help

    for known in (
        ".*LeafSpec.* is deprecated",  # Lightning's own use of torch
        "Checkpoint directory .* exists and is not empty",  # the run's own, in which its configuration is
        "Be aware that when using `ckpt_path`, callbacks",  # evaluation needs none
    ):
        warnings.filterwarnings("ignore", message=known)
    if {"-h", "--help"} & set(arguments):
        print(short_help(arguments[0], str(getattr(Trainer, arguments[0]).__doc__).splitlines()[0]), end="")
        return
    try:
        TrainingCLI(args=["--help" if word == FULL_HELP else word for word in arguments])
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
