"""Who is let in: this machine's own page, with the token of its address, and nobody else."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
OWN_SITES = ("same-origin", "none")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer: no script, style or picture of elsewhere, and no page of elsewhere around this one."""


class Gate:
    """Refuses requests to another host, from another origin, or without the token; an ASGI application.

    Args:
        app: Sees what is let in, by its path behind the token.
        token: The first part of every path.
        port: Of the server.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        # Browsers leave the port of HTTP away.
        suffixes = (f":{port}", "") if port == 80 else (f":{port}",)
        self._hosts = {f"{name}{suffix}" for name in ("127.0.0.1", "localhost") for suffix in suffixes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"expected a request by HTTP, got {scope['type']}")

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        token, _, path = scope["path"].removeprefix("/").partition("/")
        fault = self._fault(Headers(scope=scope), token)
        if fault:
            await PlainTextResponse(fault, 403)(scope, receive, send_guarded)
            return
        await self._app({**scope, "path": f"/{path}", "raw_path": b""}, receive, send_guarded)

    def _fault(self, headers: Headers, token: str) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self._hosts:
            return "expected a request to this machine by its loopback address"
        if origin is not None and origin.removeprefix("http://") not in self._hosts:
            return "expected a request of the page itself, found another origin"
        if headers.get("sec-fetch-site", "none") not in OWN_SITES:
            return "expected a request of the page itself, found another site"
        if not hmac.compare_digest(token.encode(), self._token):
            return "expected the address that pseudomask review printed, with its token"
        return None
