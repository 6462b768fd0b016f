"""Methods: point-in-time features and the schema that training, ONNX and serving share."""
