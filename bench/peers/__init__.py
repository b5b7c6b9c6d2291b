"""Other people's software, as its users run it, each in a process of its own (`bench.serving`)."""
