"""Data sources: local files, the Hugging Face hub, Python's standard library, arithmetic."""
