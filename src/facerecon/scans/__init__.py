"""Depth errors against range scans: readers, protocol and the evaluation of Table 1."""
