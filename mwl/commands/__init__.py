"""The commands of `mwl`, a module for each group; see `mwl.cli`."""
