"""The engine: drives a pinned plan forward, settles doubt, and takes everything back."""
