"""Tests of the generated Triton kernels."""
