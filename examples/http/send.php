<?php
// Submit one lead over HTTP: `INTAKE_KEY=vdk_… php send.php`. Needs the extension curl, and a running `dispatcher intake`.

function submit(array $lead, string $idempotencyKey): array
{
    for ($attempt = 1; ; $attempt++) {
        $request = curl_init((getenv('INTAKE_URL') ?: 'http://127.0.0.1:8322') . '/v1/leads');
        curl_setopt_array($request, [
            CURLOPT_POSTFIELDS => json_encode($lead),
            CURLOPT_HTTPHEADER => [
                'Authorization: Bearer ' . getenv('INTAKE_KEY'),
                'Content-Type: application/json',
                "Idempotency-Key: $idempotencyKey",
            ],
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_TIMEOUT => 30,
        ]);
        $told = json_decode((string) curl_exec($request), true);
        $status = curl_getinfo($request, CURLINFO_RESPONSE_CODE);
        if ($status === 200 || $status === 201) {
            return $told;
        }
        if ($attempt === 5 || !in_array($status, [0, 429, 500, 503], true)) {
            throw new RuntimeException(json_encode($told['errors'] ?? $told['title'] ?? 'no answer'));
        }
        sleep($attempt); // no answer, or not now: the same key makes the repetition safe
    }
}

$told = submit(
    ['phone_number' => '+14155550142', 'campaign_id' => 42, 'variables' => ['customer_name' => 'Ada']],
    'order-7'
);
echo $told['id'], ' ', $told['state'], "\n";
