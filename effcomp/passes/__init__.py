"""Passes: from ir.Graph to ir.Graph."""
