"""The web page: its files, onnxruntime-web that it runs models with, and the page as a static site."""
