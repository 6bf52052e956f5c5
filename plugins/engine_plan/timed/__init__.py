"""Times a layer and a head, which tell how fast a machine trains a model."""
