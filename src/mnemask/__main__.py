"""`python -m mnemask`: the same as the command `mnemask`."""

from mnemask.cli import main

main()
