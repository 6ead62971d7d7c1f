"""The corridor: frozen records that pass between rooms.

`text` holds what is text (no torch, so that the data, report and feedback rooms stay light);
`tensors` holds what is made of tensors. Nobody mutates a record; each stage makes a fuller one.
"""
