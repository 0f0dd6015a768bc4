"""A server of the review's page on the loopback interface."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading

import numpy as np
import torch
import uvicorn

from data.store import ArtifactError
from flows.review.app import make_app
from tasks.review.scribbles import refine_scribbles
from tasks.review.session import Session

HOST = "127.0.0.1"


class ReviewServer:
    """A server that is bound to a port, and answers once it runs.

    Attributes:
        address: Of the page, with the token that opens it.

    Args:
        session: What is reviewed.
        port: 0 for any that is free.

    Raises:
        ArtifactError: The port is taken.
    """

    def __init__(self, session: Session, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((HOST, port))
            # Who has the address may come before the server is at work.
            self._socket.listen()
        except OSError as error:
            self._socket.close()
            raise ArtifactError(f"{HOST}:{port}: cannot be served ({error.strerror}); choose another --port") from None
        found, token = self._socket.getsockname()[1], secrets.token_urlsafe(24)
        self.address = f"http://{HOST}:{found}/{token}/"
        options = uvicorn.Config(make_app(session, token, found), ws="none", log_level="warning", access_log=False)
        self._server = uvicorn.Server(options)

    def run(self) -> None:
        """Serve until the process is interrupted, which is how a review ends."""
        threading.Thread(target=_warm_up, daemon=True).start()
        # Uvicorn closes its connections, and raises the signal again.
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._socket])


def _warm_up() -> None:
    """Load what the first scribble needs, so that it is as fast as the others."""
    refine_scribbles(np.eye(16, dtype=np.uint16), torch.zeros(4, 4))
