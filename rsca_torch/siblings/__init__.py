"""What a fitted map is for: the stars most like a given one, and how probable it is that they are its siblings."""
