"""How a script starts, is told what to do, and ends."""
