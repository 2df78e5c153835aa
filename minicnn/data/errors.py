"""What can be wrong with a data set."""

from __future__ import annotations


class DatasetError(ValueError):
    """A data set can't be had or can't be read; the text names the file and the cure."""


class DatasetNotFound(DatasetError):
    """No copy is on this machine, and none may be downloaded."""


class DownloadError(DatasetError):
    """No source gave the right bytes; the text lists each source with its reason."""


class DatasetWarning(UserWarning):
    """A data set can be read, but isn't quite what it should be."""
