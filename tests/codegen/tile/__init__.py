"""Tests of the tile IR."""
