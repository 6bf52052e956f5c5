"""What models have read of what they are asked: searches for it, and warnings of it."""
