"""The pages on which people label and a lead looks after it: HTTP around `feedback.Store`, nothing kept here."""
