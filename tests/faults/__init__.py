"""Parts are killed at random under load, and every request is accounted for."""
