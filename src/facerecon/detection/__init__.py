"""The two ways to look for faces, and the box that both return."""
