"""What Voicery answered, as values: replies, outcomes, hints and listings. Pure."""
