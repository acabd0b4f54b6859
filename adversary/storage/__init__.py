"""What a run leaves on disk: its folder, its tables, its names. It draws nothing.

Imports ``common``, ``observation``, ``scoring``. To add a table: its columns in ``schemas``, and a
method of :class:`RunFolder` that appends to it.
"""

from adversary.storage.run_folder import RunFolder, RunFolderError

__all__ = [
    "RunFolder",
    "RunFolderError",
]
