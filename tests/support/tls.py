"""TLS for tests: a private authority with the certificates that it issues, and a front that ends TLS before a venue."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

T = TypeVar("T")

LOOPBACK = ("localhost", "127.0.0.1")
HOUR = timedelta(hours=1)
KINDS = {"/v5/public": "public", "/v5/private": "private", "/v5/trade": "trade"}
CONTROL_S = 20.0


class Authority:
    """One that nobody trusts by itself. `file`: its certificate, for SSL_CERT_FILE."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} of a test")])
        builder = self._builder(self._subject, self._key.public_key(), datetime.now(UTC) + HOUR)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(self, names: Sequence[str] = LOOPBACK, *, expired: bool = False) -> ssl.SSLContext:
        """A server's context by a certificate for those names. `expired`: since a minute."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        until = now - timedelta(minutes=1) if expired else now + HOUR
        builder = self._builder(subject, key.public_key(), until)
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        both = self._folder / f"{self._name}-{certificate.serial_number}.pem"
        secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
        both.write_bytes(secret + certificate.public_bytes(pem))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(both)
        return context

    def client(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        return ssl.create_default_context(cafile=str(self.file))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime.now(UTC) - 2 * HOUR)
        builder = builder.not_valid_after(until)
        issuer, identifier = self._key.public_key(), x509.AuthorityKeyIdentifier.from_issuer_public_key
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        return builder.add_extension(identifier(issuer), critical=False)


def _name(text: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(text))
    return x509.DNSName(text)


class _Passing:
    """One connection that was accepted: `kind` by the path of its first request."""

    def __init__(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.kind, self.reader, self.writer = kind, reader, writer
        self.hears = asyncio.Event()
        self.hears.set()
        self.withholds = False


class TlsFront:
    """Ends TLS on loopback and passes everything on to a plain port. Every method is for other threads than its own.

    `heard`: all that was said to it inside TLS. `names`: the server name of every greeting, None where it had none.
    """

    def __init__(self, context: ssl.SSLContext, venue_port: int) -> None:
        self._venue_port = venue_port
        self._open: set[_Passing] = set()
        self._deaf: set[str] = set()
        self._done: set[asyncio.Task[None]] = set()
        self.names: list[str | None] = []
        self.versions: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.heard = bytearray()
        self.use(context)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._asked(self._listen)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def use(self, context: ssl.SSLContext) -> None:
        """From the next connection on."""
        context.sni_callback = self._greeted
        self._context = context

    def cut(self, kind: str) -> int:
        """Aborts what is open of that kind, with no farewell of TLS. Returns how many those were."""

        async def work() -> int:
            found = [one for one in self._open if one.kind == kind]
            for one in found:
                one.writer.transport.abort()
            return len(found)

        return self._asked(work)

    def deafen(self, kind: str) -> int:
        """Passes on nothing more of what clients say by that kind, and reads it no longer; of new connections too."""

        async def work() -> int:
            self._deaf.add(kind)
            found = [one for one in self._open if one.kind == kind]
            for one in found:
                one.hears.clear()
            return len(found)

        return self._asked(work)

    def undeafen(self, kind: str) -> None:
        """Reads on."""

        async def work() -> None:
            self._deaf.discard(kind)
            for one in self._open:
                if one.kind == kind:
                    one.hears.set()

        self._asked(work)

    def withholds(self, kind: str) -> bool:
        """Whether something that was said by that kind waits for `undeafen`."""

        async def work() -> bool:
            return any(one.kind == kind and one.withholds for one in self._open)

        return self._asked(work)

    def close(self) -> None:
        """Ends everything."""

        async def work() -> None:
            self._server.close()
            for one in list(self._open):
                one.writer.transport.abort()
            for task in list(self._done):
                task.cancel()
            await asyncio.gather(*self._done, return_exceptions=True)

        self._asked(work)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CONTROL_S)
        self._loop.close()

    def _asked(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(CONTROL_S)

    def _greeted(self, _: object, name: str | None, __: object) -> None:
        self.names.append(name)

    async def _listen(self) -> asyncio.Server:
        self._loop.set_exception_handler(lambda *_: None)  # a handshake that fails is told of by its client
        return await asyncio.start_server(self._plain, "127.0.0.1", 0)

    async def _plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._done.add(task)
        try:
            await writer.start_tls(self._context)
            await self._secured(reader, writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            self._done.discard(task)
            writer.transport.abort()

    async def _secured(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        kind = next((kind for start, kind in KINDS.items() if path.startswith(start)), "rest")
        one = _Passing(kind, reader, writer)
        self.opened[kind] += 1
        self.versions[str(writer.get_extra_info("ssl_object").version())] += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._venue_port)
        self._open.add(one)
        if kind in self._deaf:
            one.hears.clear()
        pumps = [asyncio.create_task(self._hear(one, head, to_writer)), asyncio.create_task(_say(to_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(one)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            to_writer.transport.abort()

    async def _hear(self, one: _Passing, data: bytes, to: asyncio.StreamWriter) -> None:
        while data:
            one.withholds = True
            await one.hears.wait()
            one.withholds = False
            self.heard += data
            to.write(data)
            await to.drain()
            data = await one.reader.read(1 << 16)


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def tls_front(context: ssl.SSLContext, venue_port: int) -> Iterator[TlsFront]:
    front = TlsFront(context, venue_port)
    try:
        yield front
    finally:
        front.close()
