"""Errors that a user can act on.

Every message is one sentence that names what is wrong and what to do about it. The command line prints it without a
traceback and exits with code 2, or 1 where the rest of a list is done; library callers can catch `LamiError`, or the
built-in class it also derives from.
"""


class LamiError(Exception):
    """Base of all errors that lami raises about its input."""


class ConfigError(LamiError, ValueError):
    """A configuration key or value that cannot work."""


class DataError(LamiError, ValueError):
    """An image, video or data set that cannot be read or used."""


class CheckpointError(LamiError, ValueError):
    """A weight file that is not what it should be."""


class WeightsUnavailableError(LamiError, RuntimeError):
    """Pretrained weights that are neither here nor downloadable."""


class IncompleteError(LamiError, RuntimeError):
    """Some files of a list could not be made; all were tried, and the others are there. Exit code 1."""


class BackendUnavailableError(LamiError, RuntimeError):
    """An implementation of the ops that was asked for by name but cannot run here."""


class HubError(LamiError, RuntimeError):
    """The model hub cannot be reached, refuses, or has no such model."""
