"""Laws of the loss: fits, what they predict, and which of them is believed."""
