"""Judges that are language models: what they are asked, who answers, how replies become numbers (docs/judges.md)."""
