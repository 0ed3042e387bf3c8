"""`python -m fastact demo`: handwritten digits, a small network, what its activation does to it.

`formulas` has the activations as one writes them in plain NumPy, `network` the multilayer
perceptron, `lessons` the experiments, `report` tables, plot and JSON, `command` the command line.
"""
