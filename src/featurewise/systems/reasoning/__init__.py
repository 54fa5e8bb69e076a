"""Systems that answer questions about what they see."""
