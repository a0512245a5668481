"""Chemical likeness of stars, learned from open clusters."""
