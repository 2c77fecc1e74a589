"""The number of training steps, known before the training begins."""

import math

import pytorch_lightning as pl


def steps_of_training(trainer: pl.Trainer, batches: float) -> float:
    """The steps of the optimizer in a whole training, infinite if neither data nor trainer end it.

    Lightning's own number is -1 for an endless stream of data.

    >>> trainer = pl.Trainer(max_epochs=3, accumulate_grad_batches=2, logger=False)
    >>> steps_of_training(trainer, batches=5)
    9

    Args:
        trainer: The trainer, whose ``max_epochs``, ``max_steps`` and ``accumulate_grad_batches``
            count.
        batches: Batches of an epoch in this process; infinite for a stream.
    """
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs
    most = math.inf if trainer.max_steps == -1 else trainer.max_steps
    if math.inf in (batches, epochs):
        return most
    return min(math.ceil(batches / trainer.accumulate_grad_batches) * epochs, most)
