"""Files of weights: reading and writing tensors as other programs store them."""
