"""Thin scripts over kdedge that measure and write down; run them from the checkout: ``python -m benchmarks.NAME``."""
