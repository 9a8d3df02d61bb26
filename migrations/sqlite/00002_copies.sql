-- +goose Up
-- Whom the original of a copy is for: domain and uid, with a NUL between them; empty for everything else.
ALTER TABLE inbox ADD COLUMN target TEXT NOT NULL DEFAULT '' CHECK (length(CAST(target AS BLOB)) <= 193);

-- +goose Down
ALTER TABLE inbox DROP COLUMN target;
