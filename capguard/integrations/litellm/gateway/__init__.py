"""Caps inside the LiteLLM proxy: who calls, what the client sees, and the hooks that hold and book."""
