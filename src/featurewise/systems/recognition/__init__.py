"""Recognition of images: networks whose features depend on the image itself or on its domain."""
