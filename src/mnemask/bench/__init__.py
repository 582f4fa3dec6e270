"""How fast mnemask is on this machine, part by part, and how close that is to the machine's ceiling."""
