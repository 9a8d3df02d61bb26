-- +goose Up
-- The same tables as for MySQL; the checks make SQLite refuse what MySQL refuses.
-- 64-bit numbers that use their highest bit are stored as the negative number with the same bits; msg_id never does.

CREATE TABLE inbox (
  msg_id        INTEGER PRIMARY KEY NOT NULL CHECK (msg_id > 0),
  domain        TEXT    NOT NULL CHECK (length(CAST(domain AS BLOB)) <= 64),
  uid           TEXT    NOT NULL CHECK (length(CAST(uid AS BLOB)) <= 128),
  digest        BLOB    NOT NULL CHECK (length(digest) = 16),
  from_domain   TEXT    NOT NULL CHECK (length(CAST(from_domain AS BLOB)) <= 64),
  from_uid      TEXT    NOT NULL CHECK (length(CAST(from_uid AS BLOB)) <= 128),
  from_class    INTEGER NOT NULL,
  stream        INTEGER NOT NULL,
  target_seq    INTEGER NOT NULL,
  client_msg_id BLOB    NOT NULL CHECK (length(client_msg_id) = 16),
  kind          INTEGER NOT NULL,
  type          TEXT    NOT NULL CHECK (length(CAST(type AS BLOB)) <= 64),
  content       BLOB    CHECK (length(content) <= 16777215),
  flags         INTEGER NOT NULL,
  created_at    INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL,
  confirmed     INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX inbox_digest ON inbox (digest);
CREATE INDEX inbox_owner ON inbox (domain, uid, msg_id);

CREATE TABLE device_mask (
  domain TEXT    NOT NULL,
  uid    TEXT    NOT NULL,
  mask   INTEGER NOT NULL,
  PRIMARY KEY (domain, uid)
) WITHOUT ROWID;

CREATE TABLE device (
  domain        TEXT    NOT NULL CHECK (length(CAST(domain AS BLOB)) <= 64),
  uid           TEXT    NOT NULL CHECK (length(CAST(uid AS BLOB)) <= 128),
  class         INTEGER NOT NULL,
  session       INTEGER NOT NULL,
  seen_at       INTEGER NOT NULL,
  retired_at    INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (domain, uid, class)
) WITHOUT ROWID;
CREATE INDEX device_idle ON device (retired_at, seen_at);

CREATE TABLE device_login (
  domain        TEXT    NOT NULL CHECK (length(CAST(domain AS BLOB)) <= 64),
  uid           TEXT    NOT NULL CHECK (length(CAST(uid AS BLOB)) <= 128),
  class         INTEGER NOT NULL,
  installation  BLOB    NOT NULL CHECK (length(installation) = 16),
  login_counter INTEGER NOT NULL,
  session       INTEGER NOT NULL,
  PRIMARY KEY (domain, uid, class, installation)
) WITHOUT ROWID;

CREATE TABLE node (
  number     INTEGER PRIMARY KEY NOT NULL,
  owner      TEXT    NOT NULL CHECK (length(CAST(owner AS BLOB)) <= 64),
  high_water INTEGER NOT NULL,
  until_at   INTEGER NOT NULL
);

INSERT INTO node (number, owner, high_water, until_at)
WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 1023)
SELECT i, '', 0, 0 FROM n;

CREATE TABLE lease (
  name     TEXT    PRIMARY KEY NOT NULL CHECK (length(CAST(name AS BLOB)) <= 64),
  owner    TEXT    NOT NULL CHECK (length(CAST(owner AS BLOB)) <= 64),
  until_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE app_key (
  id         TEXT    PRIMARY KEY NOT NULL CHECK (length(CAST(id AS BLOB)) <= 64),
  domain     TEXT    NOT NULL CHECK (length(CAST(domain AS BLOB)) <= 64),
  rights     TEXT    NOT NULL CHECK (length(CAST(rights AS BLOB)) <= 1024),
  hash       BLOB    NOT NULL CHECK (length(hash) = 32),
  created_at INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX app_key_domain ON app_key (domain, id);

-- +goose Down
DROP TABLE app_key;
DROP TABLE lease;
DROP TABLE node;
DROP TABLE device_login;
DROP TABLE device;
DROP TABLE device_mask;
DROP TABLE inbox;
