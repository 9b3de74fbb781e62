"""What comes in: samples, from feature files, from the user's own data, and their labels."""
