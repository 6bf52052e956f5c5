"""Files on disk: manifests, checkpoints, finished models, run folders."""
