"""Every mechanism in NumPy, to be read beside its paper."""
