"""Measures effcomp beside its peers on models nobody here wrote; see benchmarks/README.md."""
