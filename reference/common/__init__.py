"""Functions that the references of two or more chapters share."""
