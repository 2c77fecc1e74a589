"""The address of a Ray cluster: whether anything of Ray's kind answers there, within seconds.

Ray itself asks a dead address for two minutes, and then ends the process without an error.
"""

import os
import socket
from contextlib import suppress

_PATIENCE = 5.0  # seconds for a connection, and for the first answer on it

_FRAME = 9  # bytes of the head of a frame of HTTP/2
_SETTINGS = 4  # the type of the first frame that either side sends, the fourth byte of its head
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])


def check_answers(address: str | None) -> None:
    """Check that a server answers at an address, as Ray's do: by HTTP/2.

    Args:
        address: ``HOST:PORT``, or ``ray://HOST:PORT`` for Ray's client. Nothing is checked for
            ``auto``, ``local`` and ``None``, for which Ray looks on this machine.

    Raises:
        ValueError: The address is none, nothing answers there in ten seconds, or it is no Ray.

    Example:
        >>> check_answers("127.0.0.1:1")
        Traceback (most recent call last):
        ValueError: no Ray cluster answers at 127.0.0.1:1 (Connection refused); start one ...
    """
    if address in (None, "auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{address!r} is no address of a Ray cluster; give HOST:PORT such as 10.0.0.1:6379, or auto")
    try:
        answer = _first_answer(host.strip("[]"), int(port))
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ValueError(
            f"no Ray cluster answers at {address} ({reason}); start one with `ray start --head`, or give the address "
            "that it printed"
        ) from error
    # With TLS the first answer is the end of the handshake, which is left to Ray.
    if answer[3:4] != bytes([_SETTINGS]) and os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
        raise ValueError(
            f"what answers at {address} is no Ray cluster; give the address that `ray start --head` printed, of the "
            "port 6379 unless told otherwise"
        )


def _first_answer(host: str, port: int) -> bytes:
    """The first bytes that a server sends on a new connection; fewer if it sends no more."""
    answer = b""
    with socket.create_connection((host, port), timeout=_PATIENCE) as connection:
        connection.sendall(_GREETING)
        with suppress(OSError):
            while len(answer) < _FRAME and (part := connection.recv(_FRAME - len(answer))):
                answer += part
    return answer
