"""Where a score leaves chance: scores of models over their training FLOPs (``engine scaling
emergence``)."""
