"""`python -m mnemask`, and the command `mnemask`: the same."""


def main() -> None:
    """Runs the command line."""
    from mnemask.cli import main as run

    run()


if __name__ == "__main__":
    main()
