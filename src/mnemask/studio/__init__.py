"""The studio: click, track, correct, export, in a browser on the same machine.

A server for one user: it listens on the loopback address, gives a token to the user who started it, opens only files
below the folders named at the start, and never runs a command. The page is plain JavaScript in `static/`; it does
everything through `mm.Project`, so that a session can be repeated without a browser (`mnemask project`).
"""
