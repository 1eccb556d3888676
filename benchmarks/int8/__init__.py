"""Int8 files of several networks beside what two other tools make of the same fp32 files."""
