"""Hand-written Triton. The generator reads these files as text; only kernels and tests run them."""
