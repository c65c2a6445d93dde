"""The tile IR and what makes it: groups become kernels over blocks."""
