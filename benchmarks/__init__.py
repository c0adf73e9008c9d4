"""Ours against the peers' released packages, in one run: `make bench`."""
