<?php
// Submit a lead in a transaction of one's own: `DATABASE_URL=postgresql://… php submit.php`. Needs the extension pdo_pgsql.
$url = parse_url(getenv('DATABASE_URL'));
parse_str($url['query'] ?? '', $given);
$place = ['host' => $url['host'] ?? $given['host'] ?? '', 'port' => $url['port'] ?? $given['port'] ?? 5432, 'dbname' => ltrim($url['path'], '/')];
$pdo = new PDO('pgsql:' . http_build_query($place, '', ';'), $url['user'] ?? $given['user'] ?? null, $url['pass'] ?? null);

$order = 17;
$phone = '+14155550142';
$pdo->beginTransaction(); // your own statements, too
$call = $pdo->prepare('SELECT dispatcher.submit_lead(CAST(? AS jsonb), key => ?)');
$call->execute([json_encode(['phone_number' => $phone, 'campaign_id' => 42]), "order-$order"]);
$id = $call->fetchColumn();
$pdo->commit();
echo $id, "\n";
