// Submit one lead over HTTP: `INTAKE_KEY=vdk_… node send.mjs`. Needs Node 18 or newer, and a running `dispatcher intake`.
const url = `${process.env.INTAKE_URL ?? "http://127.0.0.1:8322"}/v1/leads`;
const lead = { phone_number: "+14155550142", campaign_id: 42, variables: { customer_name: "Ada" } };

async function submit(lead, idempotencyKey) {
  for (let attempt = 1; ; attempt += 1) {
    const wait = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
    try {
      const answer = await fetch(url, {
        method: "POST",
        headers: {
          Authorization: `Bearer ${process.env.INTAKE_KEY}`,
          "Content-Type": "application/json",
          "Idempotency-Key": idempotencyKey,
        },
        body: JSON.stringify(lead),
        signal: AbortSignal.timeout(30_000),
      });
      const told = await answer.json();
      if (answer.ok) return told;
      if (attempt === 5 || ![429, 500, 503].includes(answer.status)) {
        throw Object.assign(new Error(told.title), { errors: told.errors, final: true });
      }
      await wait(Number(answer.headers.get("Retry-After") ?? attempt));
    } catch (error) {
      if (error.final || attempt === 5) throw error;
      await wait(attempt); // no answer: the same key makes the repetition safe
    }
  }
}

const told = await submit(lead, "order-7");
console.log(told.id, told.state);
