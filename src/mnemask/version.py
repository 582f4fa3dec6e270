"""The version, at one address."""

from importlib.metadata import version

__version__ = version("mnemask")
