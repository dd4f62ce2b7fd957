"""Measurements of the worklist provider and of the layers below it."""
