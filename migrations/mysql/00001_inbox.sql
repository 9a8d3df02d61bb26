-- +goose Up
-- Keys are VARBINARY: domains and uids compare byte by byte, without padding and with their case.
-- Times are milliseconds since 1970 in UTC.

-- What users have not confirmed yet.
CREATE TABLE inbox (
  msg_id        BIGINT UNSIGNED   NOT NULL,
  domain        VARBINARY(64)     NOT NULL,
  uid           VARBINARY(128)    NOT NULL,
  digest        BINARY(16)        NOT NULL,
  from_domain   VARBINARY(64)     NOT NULL,
  from_uid      VARBINARY(128)    NOT NULL,
  from_class    TINYINT UNSIGNED  NOT NULL,
  stream        BIGINT UNSIGNED   NOT NULL,
  target_seq    BIGINT UNSIGNED   NOT NULL,
  client_msg_id BINARY(16)        NOT NULL,
  kind          TINYINT UNSIGNED  NOT NULL,
  type          VARBINARY(64)     NOT NULL,
  content       MEDIUMBLOB        NULL, -- NULL is kept for content that lies elsewhere
  flags         INT UNSIGNED      NOT NULL,
  created_at    BIGINT            NOT NULL,
  expires_at    BIGINT            NOT NULL,
  confirmed     INT UNSIGNED      NOT NULL DEFAULT 0, -- a bit for each device class
  PRIMARY KEY (msg_id),
  UNIQUE KEY inbox_digest (digest),
  KEY inbox_owner (domain, uid, msg_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- For each user the device classes that are owed his messages.
CREATE TABLE device_mask (
  domain VARBINARY(64)  NOT NULL,
  uid    VARBINARY(128) NOT NULL,
  mask   INT UNSIGNED   NOT NULL,
  PRIMARY KEY (domain, uid)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The device classes behind the masks.
CREATE TABLE device (
  domain        VARBINARY(64)    NOT NULL,
  uid           VARBINARY(128)   NOT NULL,
  class         TINYINT UNSIGNED NOT NULL,
  session       BIGINT UNSIGNED  NOT NULL, -- the newest that registered or retired the class: what comes of an older one changes nothing
  seen_at       BIGINT           NOT NULL,
  retired_at    BIGINT           NOT NULL DEFAULT 0, -- 0: owed
  PRIMARY KEY (domain, uid, class),
  KEY device_idle (retired_at, seen_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The highest login counters of the last installations of a device class, retired or not: a client's store that was restored is known by them.
CREATE TABLE device_login (
  domain        VARBINARY(64)    NOT NULL,
  uid           VARBINARY(128)   NOT NULL,
  class         TINYINT UNSIGNED NOT NULL,
  installation  BINARY(16)       NOT NULL,
  login_counter BIGINT UNSIGNED  NOT NULL,
  session       BIGINT UNSIGNED  NOT NULL,
  PRIMARY KEY (domain, uid, class, installation)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The node numbers in message ids.
CREATE TABLE node (
  number     SMALLINT UNSIGNED NOT NULL,
  owner      VARBINARY(64)     NOT NULL,
  high_water BIGINT            NOT NULL, -- ids have been made below it only
  until_at   BIGINT            NOT NULL,
  PRIMARY KEY (number)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

INSERT INTO node (number, owner, high_water, until_at)
WITH RECURSIVE digit (d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digit WHERE d < 31)
SELECT high.d * 32 + low.d, '', 0, 0 FROM digit AS high CROSS JOIN digit AS low;

-- Work that one node does at a time.
CREATE TABLE lease (
  name     VARBINARY(64) NOT NULL,
  owner    VARBINARY(64) NOT NULL,
  until_at BIGINT        NOT NULL,
  PRIMARY KEY (name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Credentials of app-servers. The secret itself is never stored.
CREATE TABLE app_key (
  id         VARBINARY(64)   NOT NULL,
  domain     VARBINARY(64)   NOT NULL,
  rights     VARBINARY(1024) NOT NULL, -- words with a space between them
  hash       BINARY(32)      NOT NULL,
  created_at BIGINT          NOT NULL,
  revoked_at BIGINT          NOT NULL DEFAULT 0,
  PRIMARY KEY (id),
  KEY app_key_domain (domain, id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- +goose Down
DROP TABLE app_key;
DROP TABLE lease;
DROP TABLE node;
DROP TABLE device_login;
DROP TABLE device;
DROP TABLE device_mask;
DROP TABLE inbox;
