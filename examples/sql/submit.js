// Submit a lead in a transaction of one's own: `DATABASE_URL=postgresql://… node submit.js`. Needs the package pg.
const { Client } = require("pg");

async function main() {
  const client = new Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  const order = 17;
  const phone = "+14155550142";
  await client.query("BEGIN"); // your own statements, too
  const { rows } = await client.query("SELECT dispatcher.submit_lead($1::jsonb, key => $2) AS id", [
    JSON.stringify({ phone_number: phone, campaign_id: 42 }),
    `order-${order}`,
  ]);
  await client.query("COMMIT");
  console.log(rows[0].id);
  await client.end();
}

main();
