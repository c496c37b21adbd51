"""What the references of two or more chapters share."""
