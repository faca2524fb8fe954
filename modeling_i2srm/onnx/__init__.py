"""Models as ONNX files: export, and a session without torch."""
