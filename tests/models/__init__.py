"""Real model classes, tiny."""
