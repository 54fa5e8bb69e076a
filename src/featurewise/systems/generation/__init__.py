"""Systems that make pictures of what they are asked for."""
