"""The ground that every room stands on: files, strict JSON, seals, locks, caches."""
