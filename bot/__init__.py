"""The market maker: quotes both sides, never takes, and stops safely. It has never heard of a gate."""
