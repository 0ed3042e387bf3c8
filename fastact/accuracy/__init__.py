"""How accurate fastact is: multi-precision oracles, the error in ULP, and sweeps over every input.

Nothing here is imported by the rest of the package. Start reading at `oracles` (what is true), then `ulp` (how an error
is counted), `samples` (where to look) and `sweep` (looking everywhere). The oracles need the extra ``test``.
"""
