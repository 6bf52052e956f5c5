"""Data: records, shards of tokens, the order of samples, packing."""
