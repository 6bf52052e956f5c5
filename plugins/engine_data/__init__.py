"""Data sources, processors that filter records, and tokenizers."""
