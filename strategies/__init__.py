"""Flower strategies that wrap Flower strategies."""
