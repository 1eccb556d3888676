"""From a trained student to a verified int8 ONNX file that knows its labels and preprocessing."""
