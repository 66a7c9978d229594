"""The one error of the one-machine set-up."""


class EmbeddedError(RuntimeError):
    """Something on this machine is in the way; the message is one line and names the remedy."""
