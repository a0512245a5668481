"""How pictures look, which lines are named in them, and what `.plot()` draws; it knows nothing of what it draws."""
