"""Errors of a loss or a metric that name its task.

torch's own error names neither the task nor the tensors that it was given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

_KINDS = (ValueError, RuntimeError, IndexError, TypeError)


@contextmanager
def naming(what: str, prediction: Any = None, target: Any = None) -> Iterator[None]:
    """Add the computation and its tensors to an error.

    Args:
        what: The computation, such as ``the loss of task 'digit'``.
        prediction: Output of the task's head; ``None`` if it takes no part.
        target: The batch's target.

    Raises:
        ValueError: The block raised one of Python's plain errors. Other errors pass unchanged, such
            as torch's of exhausted memory.
    """
    try:
        yield
    except _KINDS as error:
        if type(error) not in _KINDS:
            raise
        given = f"target: {_form(target, values=True)}"
        if prediction is not None:
            given = f"prediction: {_form(prediction)}; {given}"
        raise ValueError(f"{what} cannot be computed: {error} ({given})") from error


def _form(value: Any, values: bool = False) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    form = f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    # On an accelerator a failed kernel makes every later look at a tensor fail too.
    if values and value.numel() and value.device.type == "cpu" and not value.is_complex():
        form += f", values from {value.min().item():g} to {value.max().item():g}"
    return form
