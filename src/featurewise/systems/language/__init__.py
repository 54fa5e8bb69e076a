"""Models of language: networks whose features are scaled by what they have read."""
