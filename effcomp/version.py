"""Which effcomp this is: the one place that says so in the code."""

__version__ = "0.1.0"
