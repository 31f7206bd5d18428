"""Every process killed at every step of a rollout: the matrix, made from two lists, and what must hold afterwards."""
