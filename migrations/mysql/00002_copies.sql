-- +goose Up
-- Whom the original of a copy is for: domain and uid, with a NUL between them; empty for everything else.
-- Without a rewrite of the table: INSTANT, on MariaDB 10.3 and MySQL 8.
ALTER TABLE inbox ADD COLUMN target VARBINARY(193) NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE inbox DROP COLUMN target;
