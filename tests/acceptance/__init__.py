"""The main job as a user runs it, judged from outside: exit codes, the last line, `rollout status --json`."""
