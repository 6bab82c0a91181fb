"""The rasterizers behind `rasterize` and `mesh`, one module per backend and task."""
