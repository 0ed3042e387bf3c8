"""The asv suite: how fastact itself moves from commit to commit (beside others: ``fastact bench``).

Parameters are short strings and numbers; ``setup`` allocates, builds and calls once, so that the
timed call is only the loop. No module here imports a framework.
"""

import os

# One thread, however many cores the machine of the day has; set before anything is imported.
os.environ["FASTACT_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["NUMBA_THREADING_LAYER"] = "workqueue"
