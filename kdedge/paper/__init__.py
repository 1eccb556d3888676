"""The paper's experiments as data and one runner: its tables, figures and what it left open."""
