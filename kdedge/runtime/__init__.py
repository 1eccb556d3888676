"""What runs on the device: NumPy, OpenCV and onnxruntime, nothing else."""
