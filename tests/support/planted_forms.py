"""How a secret may be written, and what of a file's bytes is packed: where a search for planted ones has to look."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

_PACKED: Final = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]|PK\x03\x04")
"""Where a gzip, a zlib stream or a file of a zip may begin."""
_LINE_END: Final = re.compile(rb"\r?\n")
_GZIP_BITS: Final = 31
_ZLIB_BITS: Final = 15
_RAW_BITS: Final = -15
_ZIP_HEAD: Final = 30
_DEFLATED: Final = 8
_BLOCK: Final = 1 << 16
_DEPTH_MAX: Final = 3


def forms_of(values: Iterable[str]) -> list[bytes]:
    """Every way in which a value may stand in a text: as it is, base64, hex, percent-encoded, JSON, HTML."""
    found: dict[bytes, None] = {}
    for value in values:
        raw = value.encode()
        texts = [value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], html.escape(value)]
        texts += [value.replace("/", "\\/"), raw.hex(), raw.hex().upper()]
        for kept in ("", "/"):
            encoded = quote(value, safe=kept)
            texts += [encoded, re.sub("%[0-9A-F]{2}", lambda one: one[0].lower(), encoded)]
        found.update(dict.fromkeys(one.encode() for one in texts))
        found.update(dict.fromkeys(_within_base64(raw)))
    return list(found)


def _within_base64(raw: bytes) -> Iterator[bytes]:
    """What stands in any base64 of something longer: after 0, 1 or 2 bytes more than threes, in both alphabets.

    The characters at its edges are left off, for they also tell of the bytes beside it.
    """
    for before in range(3):
        first, beyond = math.ceil(8 * before / 6), 8 * (before + len(raw)) // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(before) + raw)[first:beyond]


def holds(content: bytes, forms: Iterable[bytes]) -> bool:
    """Whether one of the forms stands in the bytes, or across the ends of their lines, as base64 is broken at 76."""
    joined = content if b"\n" not in content else _LINE_END.sub(b"", content)
    return any(form in content or form in joined for form in forms)


def unpacked(name: str, content: bytes, depth: int = _DEPTH_MAX) -> Iterator[tuple[str, bytes]]:
    """The content, and whatever is packed in it at any place: gzip, zlib, zip; `depth` deep. Each with its name.

    What was cut off or damaged is given as far as it can be read. Other packings are not known.
    """
    yield name, content
    if depth:
        for match in _PACKED.finditer(content):
            inner = _inflated(content, match.start(), match.group())
            if inner:
                yield from unpacked(f"{name}:{match.start()}", inner, depth - 1)


def _inflated(content: bytes, at: int, mark: bytes) -> bytes:
    """Empty where nothing is packed there after all."""
    bits = _GZIP_BITS if mark.startswith(b"\x1f") else _ZLIB_BITS
    if mark.startswith(b"PK"):
        if at + _ZIP_HEAD > len(content):
            return b""
        (how,) = struct.unpack_from("<H", content, at + 8)
        if how != _DEFLATED:  # what is only stored stands there as it is
            return b""
        bits = _RAW_BITS
        at += _ZIP_HEAD + sum(struct.unpack_from("<HH", content, at + 26))
    view, reader, parts = memoryview(content), zlib.decompressobj(bits), []
    try:
        while at < len(content) and not reader.eof:
            parts.append(reader.decompress(view[at : at + _BLOCK]))
            at += _BLOCK
    except zlib.error:
        pass  # as far as it goes
    return b"".join(parts)
