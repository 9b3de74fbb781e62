"""Reading and writing files: weights-only, whole or not at all, and safe from hostile ones."""
