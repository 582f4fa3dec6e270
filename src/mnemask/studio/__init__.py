"""The studio: click, track, correct, export, in a browser on the same machine.

A server for one person: it listens on the loopback address, hands a token to whoever started it, opens only files below
the folders that were named, and never runs a command. The page is plain JavaScript in `static/`; what it does, it does
through `mm.Project`, so that a session can be repeated without a window (`mnemask project`).
"""
