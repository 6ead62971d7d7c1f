"""The report: one HTML file that shows what a run did. Reads run folders and nothing else; no torch."""
