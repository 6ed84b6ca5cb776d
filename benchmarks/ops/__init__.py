"""Speed and memory of the fused ops beside eager PyTorch that computes what TPSMM computes, in the way TPSMM does.

`eager` is the other side, `others` are further ones, `bench_<op>` the cases of an op, `cases` and `inputs` what a case
consists of, `plan` which are measured, `measure` and `runner` how, `results` the file that a run leaves, and `report`
the tables and plots (`tables`, `growth`, `plots`) that are made from such files.
"""
