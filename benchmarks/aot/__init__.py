"""What the Triton kernels cost GPUs that are not present: run as `python -m benchmarks.aot`."""
