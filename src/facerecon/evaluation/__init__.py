"""Validation on faces, heads and photographs outside of the training world."""
