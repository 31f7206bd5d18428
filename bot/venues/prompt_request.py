"""A request of aiohttp whose small body leaves with its head, at once.

On a Python without eager tasks aiohttp writes every body in a task of its own: the request waits for another turn of
the loop, and a task is made and thrown away for a write that never waits. It also wraps each body in a payload that
could be a file, and looks at each header several times. What leaves is the same, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import BytesPayload, ClientRequest, ClientResponse, hdrs
from aiohttp.http import SERVER_SOFTWARE, StreamWriter
from multidict import CIMultiDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp.connector import Connection
    from aiohttp.typedefs import LooseHeaders

_AUTOMATIC: Final = (*ClientRequest.DEFAULT_HEADERS.items(), (hdrs.USER_AGENT, SERVER_SOFTWARE))


class PromptRequest(ClientRequest):
    """For bodies of a POST that are bytes in memory; everything else goes aiohttp's way.

    aiohttp does not see such a body: it would follow a redirect without it, so it must be told to follow none.
    """

    _bytes: bytes | None = None
    """The body, where it leaves with the head."""

    def update_headers(self, headers: LooseHeaders | None) -> None:
        """As the parent's, in one step where the session has put them together."""
        host = self.url.host_port_subcomponent
        if host is None or type(headers) is not CIMultiDict or hdrs.HOST in headers:
            super().update_headers(headers)
            return
        self.headers = CIMultiDict(((hdrs.HOST, host),))
        self.headers.extend(headers)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """As the parent's, in one step where none of them was given."""
        if skip_auto_headers is None and not any(name in self.headers for name, _ in _AUTOMATIC):
            self.headers.extend(_AUTOMATIC)
        else:
            super().update_auto_headers(skip_auto_headers)

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """As the parent's; bytes of a known type stay bytes."""
        headers, self._bytes = self.headers, None
        if (
            self.method != hdrs.METH_POST
            or type(body) is not bytes
            or self.chunked
            or hdrs.CONTENT_TYPE not in headers
            or hdrs.CONTENT_LENGTH in headers
        ):
            super().update_body_from_data(body, _stacklevel)
            return
        self._bytes = body
        headers[hdrs.CONTENT_LENGTH] = str(len(body))

    async def send(self, conn: Connection) -> ClientResponse:
        """Writes the request. Raises ClientError or OSError where the connection ends under it."""
        body, protocol = self._bytes, conn.protocol
        if body is None:
            return await super().send(conn)
        if (
            protocol is None
            or protocol.writing_paused
            or self._continue is not None
            or self.chunked
            or self.compress
            or self.proxy is not None
        ):
            self._body = BytesPayload(body)
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write_eof(body)
        protocol.start_timeout()
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )
