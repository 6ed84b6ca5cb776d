"""Speed and memory of the fused ops beside eager PyTorch that computes what TPSMM computes, in the way TPSMM does.

`eager` is the other side, `bench_<op>` the cases of an op, `cases` what a case consists of, `measure` how it is
measured, `results` the file that a run leaves, and `report` the tables and the plot that are made from such files.
"""
