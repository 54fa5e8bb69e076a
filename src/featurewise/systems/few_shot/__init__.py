"""Few-shot learning: a network that learns its task from a handful of examples."""
