"""``engine watch``: a run in the terminal while it is going on."""
