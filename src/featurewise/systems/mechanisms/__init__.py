"""Mechanisms alone: small networks on small tasks, each to show one thing."""
