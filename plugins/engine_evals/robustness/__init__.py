"""Loss of accuracy under perturbed questions, harmless or adversarial."""
