"""The HTTP service: entries, state, metrics, and a page for people."""
