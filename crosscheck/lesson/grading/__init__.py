"""Grading of what students hand in: a notebook runs in a process of its own and is asked from outside what its answers return."""
