"""Strategy `zero`: DeepSpeed's ZeRO, data parallelism that shards the training state."""
