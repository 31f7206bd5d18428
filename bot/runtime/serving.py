"""The HTTP side put on a socket: one address, loopback alone, port 0 for any that is free."""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from aiohttp import web

from bot.runtime.operator_api import Bot, build_app

SHUTDOWN_S: Final = 0.2


class CannotListen(Exception):
    """The HTTP address cannot be had. The message is one line that names it."""


class Http(NamedTuple):
    """The HTTP side; `tokens` never print. `host` None: no HTTP."""

    host: str | None
    port: int
    grant_token: str
    approve_token: str
    armed: bool = False


async def serve(bot: Bot, http: Http) -> tuple[web.AppRunner | None, str]:
    """The runner (to be cleaned up by the caller) and the URL; None and empty without HTTP. Raises CannotListen."""
    if http.host is None:
        return None, ""
    app = build_app(bot, grant_token=http.grant_token, approve_token=http.approve_token, armed=http.armed)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((http.host, http.port))
    except OSError as error:
        listener.close()
        await runner.cleanup()
        where = f"--obs-host {http.host} --obs-port {http.port}"
        raise CannotListen(f"{where}: {error.strerror}; port 0 takes any that is free") from error
    await web.SockSite(runner, listener).start()
    host = f"[{http.host}]" if ":" in http.host else http.host
    return runner, f"http://{host}:{listener.getsockname()[1]}"
