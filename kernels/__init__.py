"""Triton kernels of `lami.ops`, one file an op. Each launcher has the signature of the op that it implements."""
