-- An application's own table, and a trigger that has every new order's customer called. The lead is committed with
-- the order, or neither is. Run it as the owner of the table: psql "$DATABASE_URL" -f shop.sql

CREATE TABLE shop_orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    phone_number text,
    lead_id uuid
);

CREATE FUNCTION shop_call() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.lead_id := dispatcher.submit_lead(
        jsonb_build_object(
            'phone_number', NEW.phone_number,
            'campaign_id', 42,
            'variables', jsonb_build_object('customer_name', NEW.customer)
        ),
        key => 'order-' || NEW.id
    );
    RETURN NEW;
END
$$;

CREATE TRIGGER shop_call BEFORE INSERT ON shop_orders
    FOR EACH ROW WHEN (NEW.phone_number IS NOT NULL) EXECUTE FUNCTION shop_call();
