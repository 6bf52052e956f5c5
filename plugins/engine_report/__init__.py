"""What came out of runs: a page, a view of a run while it is going on, a model card."""
