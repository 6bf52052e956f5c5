"""engine-lion: the Lion optimizer as a plugin for training-engine."""
