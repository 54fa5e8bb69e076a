"""Systems that generate images under a condition."""
