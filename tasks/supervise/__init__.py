"""The supervisor of the embedded stack: who starts, who restarts, where it logs. No Prefect in it."""
