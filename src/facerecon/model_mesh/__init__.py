"""The morphable model's mesh of a photograph: textured, with expressions, for other programs."""
