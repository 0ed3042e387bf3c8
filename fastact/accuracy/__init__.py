"""How accurate fastact is: multi-precision oracles, the error in ULP, sweeps over all inputs, and the proof they leave.

Nothing here is imported by the rest of the package. Start reading at `oracles` (what is true), then `ulp` (how an error
is counted), `samples` (where to look), `formulas` and `reference` (what is true, fast), `judges` and `sweep` (looking
everywhere). `digest` tells whether a kernel has changed, `results` is the file that is kept. The oracles need the extra
``test``.
"""
