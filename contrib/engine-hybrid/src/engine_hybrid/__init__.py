"""engine-hybrid: language models of linear and full attention as a plugin for training-engine."""
