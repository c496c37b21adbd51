"""Axis sizes for cases and tests: all different and above 1, so that a swapped axis cannot go unnoticed."""

B, T, S, H, M, D, E = 2, 3, 5, 4, 11, 7, 13
