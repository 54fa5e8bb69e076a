"""Published systems, a file or a package each, found by name."""
