"""How close the synthetic photographs are to real ones."""
