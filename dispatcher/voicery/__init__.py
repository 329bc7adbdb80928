"""One HTTP exchange with Voicery: `VoiceryClient` returns a `Reply`, and never raises for what the peer does."""
