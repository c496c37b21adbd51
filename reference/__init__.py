"""Every mechanism in NumPy, written to be read alongside its paper."""
