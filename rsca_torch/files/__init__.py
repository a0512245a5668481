"""Results: where one may be made, and how it is written whole or not at all."""
