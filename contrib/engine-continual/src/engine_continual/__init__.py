"""engine-continual: training on new data without forgetting, a plugin for training-engine."""
