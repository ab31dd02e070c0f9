"""The one error that the mount machinery raises for its user."""

from __future__ import annotations


class MountError(Exception):
    """A mount that cannot be made, or not kept: its text is one line for the user.

    The text names what failed, where, and where there is something to be done about it, what.
    """
