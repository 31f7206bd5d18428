"""Bybit V5: wire format, signing, the answer table, REST, streams, and the client of other processes."""
