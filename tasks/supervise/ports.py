"""Ports on loopback: the usual one where it is free, else any free one. No two stacks of a machine choose the same."""

from __future__ import annotations

import socket
from typing import Final

_CLAIMS: Final[list[socket.socket]] = []
"""Held for the life of this process: what listens on the port is a child of it, and comes up seconds later."""


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:`port` now. A moment later somebody else may have taken it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def usual_or_free(usual: int) -> int:
    """The usual port where it is free, else one the kernel chooses; claimed, so that no other stack chooses it too.

    Between the choice and the server's own bind lie seconds. A second stack that chose the same port meanwhile would
    find it answering, by the first one's server, and its worker would run the first one's flows.
    """
    if is_free(usual) and _claim(usual):
        return usual
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if _claim(port):
            return port


def _claim(port: int) -> bool:
    """Whether it is ours now. A name in the kernel's abstract space: it ends with the process, whatever ends that."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0slipway-port-{port}")
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True
