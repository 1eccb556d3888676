"""Parts of ``benchmarks.serve_load``."""
