"""Measurements against the published tables; run from the repository root."""
