"""Sequences: the only floor that imports Prefect."""
