"""How much a representation is worth, with labels and without."""
