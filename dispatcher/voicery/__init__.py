"""One HTTP exchange with Voicery, as a value: `client.VoiceryClient` makes a `dispatcher.answers.reply.Reply` of it."""
