"""Acts: plain functions with one effect each, and the guard that owns the permission to trade."""
