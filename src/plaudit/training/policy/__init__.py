"""Policy optimisation on language (N4): `loop` is the algorithm, `config` and `options` what can be chosen."""
