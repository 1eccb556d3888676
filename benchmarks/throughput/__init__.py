"""The parts of ``benchmarks.distill_throughput``."""
