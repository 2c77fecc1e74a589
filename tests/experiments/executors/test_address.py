"""Addresses of Ray clusters: what answers there, and how long nothing may."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from recon.experiments.executors import address
from recon.experiments.executors.address import check_answers

SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@contextmanager
def server(greeting: bytes) -> Iterator[str]:
    """A server that sends bytes to the first that connects, and then is silent; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(greeting)
                ended.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join()


@pytest.mark.parametrize("name", ["ray", "ray:", ":6379", "host:0", "host:65536", "host:port"])
def test_an_address_without_host_or_port_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no address of a Ray cluster; give HOST:PORT such as"):
        check_answers(name)


@pytest.mark.parametrize("prefix", ["", "ray://"])
def test_a_dead_address_is_told_at_once(prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    begin = time.monotonic()
    with pytest.raises(ValueError, match=rf"no Ray cluster answers at {prefix}127.0.0.1:{port} \(Connection refused\)"):
        check_answers(f"{prefix}127.0.0.1:{port}")
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 400 Bad Request\r\n"])
def test_a_server_of_another_kind_is_refused_even_if_it_is_silent(
    greeting: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "_PATIENCE", 0.3)
    with server(greeting) as name, pytest.raises(ValueError, match=f"what answers at {name} is no Ray cluster"):
        check_answers(name)


def test_a_server_that_speaks_first_as_grpc_does_is_taken_for_one() -> None:
    with server(SETTINGS) as name:
        check_answers(name)


def test_the_first_answer_of_an_encrypted_port_is_left_to_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with server(b"\x15\x03\x03\x00\x02\x02\x46") as name:
        monkeypatch.setattr(address, "_PATIENCE", 0.3)
        check_answers(name)


@pytest.mark.parametrize("name", [None, "auto", "local"])
def test_ray_finds_the_cluster_of_this_machine_by_itself(name: str | None) -> None:
    check_answers(name)
