"""Every secret of a stack, looked for in everything that the stack has left or shows.

    python -m tests.acceptance.secrets

Looks into the state folder (`SLIPWAY_HOME`, else `.slipway`): the accounts' keys and tokens, the approvers' seeds, the
control token, `SLIPWAY_SLACK_WEBHOOK` and `SLIPWAY_SLACK_TOKEN`, the kill switch's own key, in logs, tables, journals,
evidence and bundles, in a dump of the record where that is a PostgreSQL database, in the command lines of all
processes, and in images of dead ones. Exit code 0 where none is shown, 1 where one is (each place is a line; no value
is), 2 where there is nothing to look for.
"""

from __future__ import annotations

import os
import sys

from bot.runtime.secrets import OWN_KEY
from tasks.notify import TOKEN, WEBHOOK
from tasks.state_folder import StateFolder, StateFolderUnusable
from tests.support.planted import shown_secrets, stack_secrets


def main() -> int:
    named = {"webhook": WEBHOOK, "Slack's token": TOKEN}
    named |= {f"the kill switch's {kind.removeprefix('BYBIT_')}": name for name, kind in OWN_KEY.items()}
    given = {what: os.environ[name] for what, name in named.items() if os.environ.get(name)}
    try:
        folder = StateFolder.here()
        shown = shown_secrets(folder, given, folder.record_url)
    except (StateFolderUnusable, LookupError) as error:
        print(f"secrets: {error}", file=sys.stderr)
        return 2
    for place in shown:
        print(f"secrets: shown in {place}")
    looked_for = len(stack_secrets(folder, given))
    print(f"secrets: {looked_for} looked for under {folder.root}, {len(shown)} places show one")
    return 1 if shown else 0


if __name__ == "__main__":
    sys.exit(main())
