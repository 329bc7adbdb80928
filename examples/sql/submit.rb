# Submit a lead in a transaction of one's own: `DATABASE_URL=postgresql://… ruby submit.rb`. Needs the gem pg.
require "json"
require "pg"

order = 17
phone = "+14155550142"
connection = PG.connect(ENV.fetch("DATABASE_URL"))
id = connection.transaction do |own| # your own statements, too
  own.exec_params(
    "SELECT dispatcher.submit_lead($1::jsonb, key => $2)",
    [JSON.generate(phone_number: phone, campaign_id: 42), "order-#{order}"]
  ).getvalue(0, 0)
end
puts id
