"""A corpus in files: sources in parts, what steps make of them, and shards."""
