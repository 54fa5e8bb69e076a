"""What stands on nothing of ours: files, locks, cache."""
