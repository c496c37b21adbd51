"""Functions that lessons use, and the code that makes and checks lessons."""
