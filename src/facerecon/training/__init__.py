"""The training engine, and what CoarseNet (3.3) and FineNet (4.3, 4.4) train on."""
