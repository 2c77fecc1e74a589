"""Compiled parts of a network, through which a step takes several backwards."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def telling_of_plain_backwards() -> Iterator[None]:
    """Say in a ``with`` block why compiled code refuses a second backward, and what to do.

    Code that torch compiles for a plain backward overwrites the tensors that it has saved, which
    torch calls donated buffers. Torch's own advice is to turn that off by
    ``torch._functorch.config.donated_buffer``. With code in its cache this gives wrong gradients
    (torch 2.14): the cache does not tell the two kinds of code apart.

    Raises:
        RuntimeError: The code was compiled for a plain backward.

    Example:
        >>> with telling_of_plain_backwards():
        ...     raise RuntimeError("This backward function was compiled with donated buffers ...")
        Traceback (most recent call last):
        RuntimeError: compiled code was made for a plain backward, which overwrites ...
    """
    try:
        yield
    except RuntimeError as error:
        if "donated buffer" not in str(error):
            raise
        raise RuntimeError(
            "compiled code was made for a plain backward, which overwrites what the backwards of other tasks need: a "
            "plain backward came first, or an earlier run left the code in torch's cache. Take no plain backward "
            "before the engine's, and set TORCHINDUCTOR_FORCE_DISABLE_CACHES=1. Leave "
            "torch._functorch.config.donated_buffer alone: with cached code it gives wrong gradients"
        ) from error
