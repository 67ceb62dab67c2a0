"""Products shared by all solvers: the only compiled code besides the solvers' own loops.

A kernel takes plain C-contiguous arrays of one of two dtypes and checks nothing; it calls only kernels of its
own file and reads no mutable global, so that what it was compiled from is known: the cache on disk sees edits of the
files in this folder, and of the kernel's own.
"""


class CacheWarning(UserWarning):
    """Compiled code could not be read from the cache on disk, or not be written to it, and is compiled again."""
