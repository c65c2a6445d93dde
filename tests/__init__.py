"""The tests of effcomp. What several of them share is imported as `tests.<folder>.<module>`."""
