"""Side by side with what is installed: ``fastact bench``, the asv suite and the pytest benchmarks.

Nothing here is imported by ``import fastact``; peers (SciPy, PyTorch, ...) are imported only when
they are measured.
"""
