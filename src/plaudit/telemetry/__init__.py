"""What a run says while it runs: the register of measures, the log, progress, sinks."""
