"""What images there are: folders, splits, faces. Torch-free."""
