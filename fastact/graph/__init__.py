"""Kernels as graphs of operations: traced, computed with NumPy, made smaller where only 16-bit results are wanted."""
