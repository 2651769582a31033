"""A corpus into a vector store, row by row and exactly once: `e2rank index`."""
