"""What is run and recorded: specs, records, and what carries them out."""
