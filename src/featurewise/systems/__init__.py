"""Published systems, one file or folder each, found by name."""
