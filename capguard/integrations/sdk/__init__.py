"""What the OpenAI and the Anthropic client have in common: one `request` method that every call passes through.

Both are made by the same generator, so that one adapter serves both and imports neither.
"""
