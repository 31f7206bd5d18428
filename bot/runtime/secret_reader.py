"""Reads one pair from the backend and hands it to the process that started this one, over a pipe.

`python -m bot.runtime.secret_reader ENV EXCHANGE`. It refuses any output that is not a pipe (or a pair of sockets,
which is what an event loop makes of one): values are never printed to a terminal or a file.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping, Sequence

import msgspec

from bot.runtime.secret_backends import BackendRefused, PairRead, open_secrets
from bot.runtime.secrets import SecretMissing, SecretsUnreadable


def read(environment: Mapping[str, str], secret_env: str, exchange: str) -> PairRead:
    """The pair, or why there is none."""
    try:
        pair = open_secrets(environment, secret_env).pair(exchange)
    except SecretMissing as error:
        return PairRead(missing=str(error))
    except (SecretsUnreadable, BackendRefused) as error:
        return PairRead(unreadable=str(error))
    return PairRead(pair.api_key.reveal(), pair.api_secret.reveal(), pair.version, pair.saved_at_s)


def main(arguments: Sequence[str]) -> int:
    kind = os.fstat(sys.stdout.fileno()).st_mode
    if len(arguments) != 2 or not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        print("secret_reader: writes to the pipe of the process that starts it, and nowhere else", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(msgspec.json.encode(read(os.environ, *arguments)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
