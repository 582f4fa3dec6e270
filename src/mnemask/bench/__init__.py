"""How fast it is on this machine, part by part, and how near to what the machine can do."""
