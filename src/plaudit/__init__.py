"""plaudit: the workshop for RLHF, from people's preferences to an aligned language model."""

__version__ = "0.1.0"
