"""Instructions that the CPU kernels execute: a figure that busy machines do not change.

`python -m benchmarks.instructions` has callgrind count them and compares with `baseline.json`; `count` is the program
that callgrind watches.
"""
