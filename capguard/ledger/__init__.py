"""The heart: pure functions over integers. No clock, no I/O, no float, no host framework."""
