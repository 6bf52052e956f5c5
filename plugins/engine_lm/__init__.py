"""Language models: architectures, next-token training, optimizers, schedules, perplexity."""
