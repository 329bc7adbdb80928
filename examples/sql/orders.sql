-- Two orders, of which the second has a number that cannot be called, and what became of them.

INSERT INTO shop_orders (customer, phone_number) VALUES ('Ada', '+14155550100'), ('Bob', '12');

SELECT shop_orders.id, lead.state, lead.reasons
FROM shop_orders JOIN dispatcher.submissions AS lead ON lead.id = shop_orders.lead_id
ORDER BY shop_orders.id;
