"""The default inference: log-likelihoods with shared prefixes, and continuous batching."""
