"""The process: a socket, uvicorn on it, and an end that finishes what was taken on."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from retgen.errors import UsageError
from retgen.server.service import Service
from retgen.server.settings import LOOPBACK


class Server(uvicorn.Server):
    """uvicorn, which tells the service at the first signal that it is to end."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: nothing new is taken on from here."""
        self._service.draining = True
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        UsageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise UsageError(
            f"{host}:{port} cannot be listened on ({error.strerror or error})",
            where="--port",
            mend="Choose another port; 0 takes a free one",
        ) from error
    made.set_inheritable(True)
    return made


def url_of(bound: socket.socket) -> str:
    """Where a socket is reached from this machine."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host.lower() in LOOPBACK or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def server_of(app: FastAPI, service: Service, on_ready: Callable[[], None] | None = None) -> Server:
    """uvicorn as it is used here; its ``run(sockets=[...])`` serves until ``should_exit`` is set or a signal comes.

    Args:
        app: of `retgen.server.app.create_app`.
        service: the app's.
        on_ready: called when requests are answered.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=max(1, int(service.limits.shutdown_seconds)),
        h11_max_incomplete_event_size=64 * 1024,
    )
    return Server(config, service, on_ready)
