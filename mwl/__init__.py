"""A Modality Worklist provider, PS3.4 Annex K."""
