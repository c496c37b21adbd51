"""Every mechanism as a Keras 3 layer, for production."""
