"""What the distilled student is compared with."""
