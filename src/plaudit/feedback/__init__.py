"""People's judgements: tasks, labellers, leases and an append-only store of what was submitted. No torch, no pages."""
