"""The synthetic world: labelled photographs of faces of a morphable model (3.2.2)."""
