"""Lower a graph of groups, library calls and views to a plan."""
