"""Errors whose text is meant for the person in front of the terminal."""

from __future__ import annotations

__all__ = ["MwlError"]


class MwlError(Exception):
    """Something is not possible, and the text says why and what to do."""
