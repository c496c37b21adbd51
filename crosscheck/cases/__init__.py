"""One module per chapter, found by walking this folder. Each has a `CHAPTER` with its cases."""
