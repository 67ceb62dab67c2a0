"""Loops of kernels written as vectors of LLVM, with plain twins."""
