-- What one installation keeps. Times are nanoseconds since 1970, 0: none. 64-bit numbers keep their bits in the signed column.
CREATE TABLE identity (
  one           INTEGER PRIMARY KEY CHECK (one = 1),
  domain        TEXT NOT NULL,
  uid           TEXT NOT NULL,
  device        INTEGER NOT NULL,
  installation  BLOB NOT NULL,
  login_counter INTEGER NOT NULL,
  stream        INTEGER NOT NULL
);
CREATE TABLE target (
  domain    TEXT NOT NULL,
  uid       TEXT NOT NULL,
  stream    INTEGER NOT NULL,
  last_seq  INTEGER NOT NULL,
  last_used INTEGER NOT NULL,
  PRIMARY KEY (domain, uid)
) WITHOUT ROWID;
CREATE TABLE outbox (
  number        INTEGER PRIMARY KEY,
  client_msg_id BLOB NOT NULL,
  domain        TEXT NOT NULL,
  uid           TEXT NOT NULL,
  stream        INTEGER NOT NULL,
  target_seq    INTEGER NOT NULL,
  type          TEXT NOT NULL,
  content       BLOB NOT NULL,
  created_at    INTEGER NOT NULL,
  ttl           INTEGER NOT NULL,
  settled       INTEGER NOT NULL DEFAULT 0,
  msg_id        INTEGER NOT NULL DEFAULT 0,
  duplicate     INTEGER NOT NULL DEFAULT 0,
  code          INTEGER NOT NULL DEFAULT 0,
  reason        TEXT NOT NULL DEFAULT '',
  restored      INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE mark (
  domain    TEXT NOT NULL,
  uid       TEXT NOT NULL,
  stream    INTEGER NOT NULL,
  target    TEXT NOT NULL,
  high      INTEGER NOT NULL,
  gaps      BLOB NOT NULL, -- pairs of uvarints: distance from the last number, length
  last_used INTEGER NOT NULL,
  PRIMARY KEY (domain, uid, stream, target)
) WITHOUT ROWID;
CREATE TABLE received (
  number        INTEGER PRIMARY KEY,
  msg_id        INTEGER NOT NULL,
  shown         INTEGER NOT NULL,
  domain        TEXT NOT NULL,
  uid           TEXT NOT NULL,
  device        INTEGER NOT NULL,
  client_msg_id BLOB NOT NULL,
  type          TEXT NOT NULL,
  content       BLOB NOT NULL,
  created_at    INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL,
  stream        INTEGER NOT NULL,
  target_seq    INTEGER NOT NULL,
  late          INTEGER NOT NULL
);
CREATE TABLE seen (
  number        INTEGER PRIMARY KEY,
  domain        TEXT NOT NULL,
  uid           TEXT NOT NULL,
  client_msg_id BLOB NOT NULL
)
