"""Few-shot learning: a network that is told its task by a handful of examples."""
