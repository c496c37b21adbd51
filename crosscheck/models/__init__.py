"""Real models and small ones, for cases and lessons."""
