"""Whether the account's watchdog lives: the guard asks it itself, as it asks the guard.

It is found as Prometheus finds it, by the file that it leaves beside the targets. A file that is not there is a
watchdog that is not there; so is one that does not answer, and one whose beat has stood still while a thread of it
answers on. Only a folder that cannot be read says nothing.
"""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Final

from bot.metrics import WATCHDOG
from bot.runtime.beats import WATCHDOG_RUN

FRESH_S: Final = 5.0
"""It looks once a second, and a look at a bot and a venue that both hang takes as long again."""

ANSWERS_WITHIN_S: Final = 1.0
_BEAT: Final = f"{WATCHDOG[0].name} "


def watchdog_beats(targets: Path, account: str) -> tuple[bool | None, str]:
    """Whether it answers with a beat that is fresh, and what was found; None where that cannot be known.

    Blocks for ANSWERS_WITHIN_S or two. Never raises for what a file or an answer may hold.
    """
    path = targets / f"{account}-{WATCHDOG_RUN}.json"
    try:
        ((target,),) = [one["targets"] for one in json.loads(path.read_text(encoding="utf-8"))]
        host, _, port = str(target).rpartition(":")
        number = int(port)
    except FileNotFoundError:
        return (False, "no watchdog serves this account") if targets.is_dir() else (None, f"{targets} is not there")
    except OSError as error:
        return None, f"{path}: cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError):
        return False, f"{path} tells no address"
    connection = http.client.HTTPConnection(host, number, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        page = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"the watchdog does not answer ({type(error).__name__})"
    finally:
        connection.close()
    beat = next((line.removeprefix(_BEAT) for line in page.splitlines() if line.startswith(_BEAT)), "")
    try:
        age_s = time.time() - float(beat)
    except ValueError:
        return False, "the watchdog answers and tells no beat"
    return age_s <= FRESH_S, f"its beat is {max(age_s, 0.0):.1f} s old, {FRESH_S:g} s allowed"
