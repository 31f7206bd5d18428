"""What makes the pure engine a process: loop, exporter, operator API, logs, kill switch."""
