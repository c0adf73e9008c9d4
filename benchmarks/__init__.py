"""Benchmarks against the peers' released packages: `make bench`."""
