"""One module a chapter, found by walking this folder: a `CHAPTER` with its cases."""
