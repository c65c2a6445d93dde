"""The rules of canonicalize, by what they are about."""
