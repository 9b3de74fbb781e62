"""Real labelled sets from packages of PyPI, npm and Debian, and cells made of them."""
