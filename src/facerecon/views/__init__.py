"""What the notebooks and reports show: figures, explorers, diagrams, example portraits."""
