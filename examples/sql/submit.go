// Submit a lead in a transaction of one's own: `DATABASE_URL=postgresql://… go run submit.go`. Needs the module
// github.com/jackc/pgx/v5.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/jackc/pgx/v5"
)

func submit(ctx context.Context, connection *pgx.Conn, lead map[string]any, key string) (id string, err error) {
	body, err := json.Marshal(lead)
	if err != nil {
		return "", err
	}
	transaction, err := connection.Begin(ctx) // your own statements, too
	if err != nil {
		return "", err
	}
	defer transaction.Rollback(ctx) // nothing after the commit
	statement := "SELECT dispatcher.submit_lead($1::jsonb, key => $2)::text"
	if err = transaction.QueryRow(ctx, statement, body, key).Scan(&id); err != nil {
		return "", err
	}
	return id, transaction.Commit(ctx)
}

func main() {
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close(ctx)
	id, err := submit(ctx, connection, map[string]any{"phone_number": "+14155550142", "campaign_id": 42}, "order-17")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id)
}
