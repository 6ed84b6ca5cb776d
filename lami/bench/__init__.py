"""Measuring lami on the machine and the data at hand."""
