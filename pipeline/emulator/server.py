"""The emulator served on 127.0.0.1 by uvicorn, in a thread or in the main one, stopped at once when told."""

import asyncio
import socket
import threading
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol


class Cuttable(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """Uvicorn's protocol, with the connection in reach of whoever wants to cut it."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.app_state: dict[str, Any] = {**self.app_state, "transport": transport}


class Server(uvicorn.Server):
    """Uvicorn without its tenth of a second between looks at whether to stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = threading.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._told.is_set():
            return
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut what is open: a stalled download would otherwise never end."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=5)
        await self.lifespan.shutdown()

    def stop(self) -> None:
        """End soon; may be called from any thread and from a signal."""
        self._told.set()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.stop()


def bind(port: int) -> socket.socket:
    """A listening socket on the loopback; from now on clients can connect, and wait until they are served."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(512)
    listener.setblocking(False)
    return listener


def server(app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            http=Cuttable,
            ws="none",
            lifespan="on",
            access_log=False,
            log_level="critical",
            date_header=False,
            server_header=False,
            timeout_keep_alive=600,  # a test that thinks for a while is no reason to reconnect
        )
    )
