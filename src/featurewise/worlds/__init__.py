"""Worlds: data sets, generated or read from files, one folder each, with their metrics."""
