"""Single questions answered with the grid's runs or on real volumes."""
