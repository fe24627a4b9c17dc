"""A trained model becomes an engine folder: ONNX graphs now, TensorRT plans from them."""
