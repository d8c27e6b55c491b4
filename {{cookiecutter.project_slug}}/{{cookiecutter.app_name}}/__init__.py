"""The sample: importing contacts from CSV files, in the background."""
