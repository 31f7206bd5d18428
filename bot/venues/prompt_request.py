"""A request of aiohttp whose small body leaves with its head, at once.

On a Python without eager tasks aiohttp writes every body in a task of its own: the request waits for another turn of
the loop, and a task is made and thrown away for a write that never waits. What leaves is the same, byte for byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import BytesPayload, ClientRequest, ClientResponse
from aiohttp.http import StreamWriter

if TYPE_CHECKING:
    from aiohttp.connector import Connection


class PromptRequest(ClientRequest):
    """For bodies that are bytes in memory; everything else goes aiohttp's way."""

    async def send(self, conn: Connection) -> ClientResponse:
        """Writes the request. Raises ClientError or OSError where the connection ends under it."""
        body, protocol = self._body, conn.protocol
        if (
            type(body) is not BytesPayload
            or protocol is None
            or protocol.writing_paused
            or self._continue is not None
            or self.chunked
            or self.compress
            or self.proxy is not None
        ):
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await body.write_with_length(writer, None)
        await writer.write_eof()
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
