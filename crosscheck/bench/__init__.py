"""How long layers and references take, and how much memory: `python -m crosscheck.bench`."""
