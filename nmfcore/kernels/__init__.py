"""Products shared by all solvers: the only compiled code besides the solvers' own loops.

A kernel takes plain C-contiguous arrays of one of two dtypes and checks nothing; it calls only kernels of its
own file and reads no mutable global, because Numba's on-disk cache does not see edits elsewhere.
"""
