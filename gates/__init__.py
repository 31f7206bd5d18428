"""Judges: criteria, measurements, verdicts, decisions. Pure but for the sources that measure."""
