"""Publishing: ONNX files, the champion, and the collections that services read."""
