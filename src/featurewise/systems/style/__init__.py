"""Style transfer: images in the manner of others."""
