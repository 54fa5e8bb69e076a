"""Worlds: data that is made or read, one folder each, with the metrics it is judged by."""
