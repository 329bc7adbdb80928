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

func main() {
	ctx := context.Background()
	connection, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close(ctx)
	var id string
	err = pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error { // your own statements, too
		lead, err := json.Marshal(map[string]any{"phone_number": "+14155550142", "campaign_id": 42})
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT dispatcher.submit_lead($1::jsonb, key => $2)::text", lead, "order-17").Scan(&id)
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(id)
}
