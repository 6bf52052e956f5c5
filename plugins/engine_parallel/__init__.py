"""Training strategies in plain torch: one process, data parallelism, and meshes."""
