"""Ports on loopback: the usual one where it is free, else any free one."""

from __future__ import annotations

import socket


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
    """The usual port where it is free, else one the kernel chooses."""
    if is_free(usual):
        return usual
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
