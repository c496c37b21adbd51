"""Code shared by the layers of two or more chapters."""
