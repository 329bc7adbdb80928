"""One HTTP exchange with Voicery, as a value: `client.VoiceryClient` makes a `dispatcher.reply.Reply` of it."""
