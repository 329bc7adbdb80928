// Submit one lead over HTTP: `INTAKE_KEY=vdk_… go run send.go`. Needs Go 1.19 or newer, and a running `dispatcher intake`.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

type Lead struct {
	PhoneNumber string            `json:"phone_number"`
	CampaignID  int64             `json:"campaign_id"`
	Variables   map[string]string `json:"variables,omitempty"`
}

type Told struct{ ID, State string }

var client = http.Client{Timeout: 30 * time.Second}

// submit repeats what was not answered: the same key makes that safe.
func submit(lead Lead, idempotencyKey string) (told Told, err error) {
	url := os.Getenv("INTAKE_URL")
	if url == "" {
		url = "http://127.0.0.1:8322"
	}
	body, err := json.Marshal(lead)
	if err != nil {
		return told, err
	}
	for attempt := 1; attempt <= 5; attempt++ {
		request, err := http.NewRequest("POST", url+"/v1/leads", bytes.NewReader(body))
		if err != nil {
			return told, err
		}
		request.Header.Set("Authorization", "Bearer "+os.Getenv("INTAKE_KEY"))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", idempotencyKey)
		wait := attempt
		if answer, err := client.Do(request); err == nil {
			said, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			switch status := answer.StatusCode; {
			case err == nil && (status == 200 || status == 201):
				return told, json.Unmarshal(said, &told)
			case err == nil && status != 429 && status != 500 && status != 503:
				return told, fmt.Errorf("HTTP %d: %s", status, said)
			}
			if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil {
				wait = seconds
			}
		}
		time.Sleep(time.Duration(wait) * time.Second)
	}
	return told, fmt.Errorf("no answer after five attempts")
}

func main() {
	lead := Lead{"+14155550142", 42, map[string]string{"customer_name": "Ada"}}
	told, err := submit(lead, "order-7")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(told.ID, told.State)
}
