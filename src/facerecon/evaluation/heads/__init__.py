"""CoarseNet on rendered heads of another model, whose shape and pose are known."""
