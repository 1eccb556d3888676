"""Teacher activations in, a trained student out. Needs the ``train`` extra."""
