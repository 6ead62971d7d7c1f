"""Text to tokens: tokenizers, templates, packed batches."""
