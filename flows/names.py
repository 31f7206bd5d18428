"""Names and numbers of the command line that both its help and its work need. Imports nothing, so help is instant."""

from __future__ import annotations

FAULTS = ("crash", "crossing", "loss", "orphan", "stall", "blind")
FAULTS_IN_SHADOW = ("crash", "blind")
"""What can go wrong where no order leaves the process."""
STAGES = ("shadow", "testnet", "canary", "soak", "scale-up")
FULL = "full"
FAULT_STAGE = "canary"
"""Where a fault happens that names no stage."""
REAL_PLAN = "configs/rollout.yaml"
SMOKE_PLAN = "configs/rollout.smoke.yaml"
RECORDED_PLAN = "configs/rollout.recorded.yaml"
FAULTS_PLAN = "configs/rollout.faults.yaml"
MARKET = "generated"

EXIT_PROMOTED = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_ROLLED_BACK = 3
EXIT_PARKED = 4
EXIT_INTERRUPTED = 130
EXIT_OF_STEP = {"promoted": EXIT_PROMOTED, "rolled_back": EXIT_ROLLED_BACK, "parked": EXIT_PARKED}
