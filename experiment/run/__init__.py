"""From Samples to a Result: label errors and outliers, and what both need."""
