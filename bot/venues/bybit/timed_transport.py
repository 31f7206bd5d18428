"""httpx over connections on which a whole call has a deadline, and not only each wait for a byte.

httpx gives each wait of a socket its time: a peer that sends one byte in each of them holds a call for ever, and one
that sends them in the head of its answer does so before anybody has an answer to look at. Here every wait is as long
as it may be by itself, and no longer than what is left of the call. That holds for each address that a host's name
leads to, too: a socket that connects by itself gives the whole time to every one of them.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import Any

import httpcore
import httpx


class TimedTransport(httpx.HTTPTransport):
    """No call lasts longer than `call_s_max` seconds, from its first wait to the last byte of its answer, read in the
    thread that made it, nor than its extension `left_s` where it has one. Raises httpx's timeouts."""

    def __init__(self, call_s_max: float) -> None:
        context = trusting()
        super().__init__(verify=context, trust_env=False)
        self._call_s_max = call_s_max
        self._deadline = _Deadline()
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
            network_backend=_TimedBackend(self._deadline),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        left_s: float = request.extensions.get("left_s", math.inf)
        self._deadline.at_s = time.monotonic() + min(self._call_s_max, left_s)
        return super().handle_request(request)


def trusting() -> ssl.SSLContext:
    """Believes whom the bot believes: the system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR instead.

    What the bot can trade at, its kill switch can cancel at: httpx would believe the authorities of its own list only.
    That list is added where neither is set, for a system that has none.
    """
    if any(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")):
        context = ssl.create_default_context()
    else:
        context = httpx.create_ssl_context(trust_env=False)
        context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # a system may leave it to its OpenSSL's configuration
    return context


class _Deadline(threading.local):
    """When the call of this thread must have ended, by the monotonic clock."""

    at_s: float = math.inf

    def cut(self, wait_s: float | None, late: type[httpcore.TimeoutException], among: int = 1) -> float:
        """The wait that is left of `wait_s`, for one of so many one after another. Raises `late` where none is."""
        left_s = (self.at_s - time.monotonic()) / among
        if left_s <= 0:
            raise late("the whole answer took too long")
        return left_s if wait_s is None else min(wait_s, left_s)


class _TimedBackend(httpcore.SyncBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """The first address of the host that answers, each within its share of what is left: none keeps a later one
        from being tried. Raises what the last one raised."""
        failed: httpcore.ConnectError | httpcore.ConnectTimeout
        failed = httpcore.ConnectError(f"{host} has no address")
        addresses = _addresses(host, port, self._deadline.cut(timeout, httpcore.ConnectTimeout))
        for number, address in enumerate(addresses):
            wait_s = self._deadline.cut(timeout, httpcore.ConnectTimeout, among=len(addresses) - number)
            try:
                stream = super().connect_tcp(address, port, wait_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
                continue
            return _TimedStream(stream, self._deadline)
        raise failed


def _addresses(host: str, port: int, wait_s: float) -> list[str]:
    """Those that the resolver has for this name, in its order. Raises httpcore.ConnectError or ConnectTimeout.

    A resolver takes no time-out of ours: it is asked on a thread, which is left behind where it says nothing in time.
    """
    answers: SimpleQueue[list[Any] | Exception] = SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    try:
        threading.Thread(target=look_up, daemon=True).start()
    except RuntimeError:  # a system out of threads: a look-up that may take long is better than none
        look_up()
    try:
        found = answers.get(timeout=wait_s)
    except Empty:
        raise httpcore.ConnectTimeout(f"looking {host} up took too long") from None
    if isinstance(found, Exception):
        raise httpcore.ConnectError(str(found)) from found
    addresses = []
    for *_, place in found:
        scope = place[3] if len(place) == 4 else 0  # of IPv6 alone: the interface of an address that has no other
        addresses.append(f"{place[0]}%{scope}" if scope else str(place[0]))
    return addresses


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.cut(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.cut(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait_s = self._deadline.cut(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, wait_s), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
