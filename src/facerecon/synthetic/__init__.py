"""The synthetic world: labeled photographs of faces of a morphable model (3.2.2)."""
