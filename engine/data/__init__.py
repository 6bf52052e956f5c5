"""Data: records, shards of tokens, held-out records, the order of samples."""
