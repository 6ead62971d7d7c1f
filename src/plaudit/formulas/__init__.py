"""Pure formulas: tensors and keyword floats in, tensors out; no records, no configs, no devices, no randomness.

Nothing is imported here, so that the torch-free modules (`intervals`, `optimum`, `schedules`) stay torch-free.

Habits of the room:
- `mask` is bool, True counts, and selects *before* every non-linearity: what stands outside it (NaN, inf, 1e30)
  changes neither values nor gradients.
- Log-ratios are current minus other.
- A loss is the sum over kept tokens divided by the `num_tokens` handed in, so that micro-batches and ranks add up.
- A docstring has the equation, its source (a note number such as N4.7, and a paper), shapes, units and errors.
"""
