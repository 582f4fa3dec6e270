"""`python -m mnemask.cli`: the same as the command `mnemask`."""

from mnemask.cli import main

main()
