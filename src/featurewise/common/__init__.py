"""The ground that every room stands on: strict JSON, whole files, seals. It imports no room."""
