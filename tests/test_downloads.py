"""Remote files as streams: how they are read from the network."""

import socket
import threading

import httpx2

from pipeline.backends.downloads import Download
from pipeline.clock import MachineClock
from pipeline.errors import NightshootError

SIZE = 8_000_000


def serve(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1 << 16)
        head = f"Content-Range: bytes 0-{SIZE - 1}/{SIZE}\r\nContent-Length: {SIZE}\r\n\r\n"
        connection.sendall(b"HTTP/1.1 206 Partial Content\r\n" + head.encode() + bytes(SIZE))


def test_more_is_read_at_a_time_than_the_http_library_would() -> None:
    """Its 64 KB at a time cost a tenth of a download. Fails where a new version of it goes another way."""
    with socket.create_server(("127.0.0.1", 0)) as listener, httpx2.Client(trust_env=False) as client:
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/result"
        counts = []
        with Download(
            client, url, 0, clock=MachineClock(), explain=lambda _, what: NightshootError(what)
        ) as stream:
            buffer = bytearray(1 << 20)
            while count := stream.readinto(buffer):
                counts.append(count)
        server.join()
    assert sum(counts) == SIZE
    assert max(counts) > 1 << 16
