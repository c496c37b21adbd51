"""The bridge between `reference` and `layers`: the same numbers through both, and what came out."""

import os

# TensorFlow's C++ start-up lines would stand above every table and lesson.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
