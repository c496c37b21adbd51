"""What the layers of two or more chapters share."""
