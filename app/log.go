package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
)

// newLogger writes to w as the configuration says. The level can be changed while the process runs.
func newLogger(cfg Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.level())
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), level
	}
	return slog.New(slog.NewTextHandler(w, opts)), level
}

// redisLogger is a slog.Logger as go-redis wants one. It has one for the whole process.
type redisLogger struct{ *slog.Logger }

// Printf carries reconnects and the like, several a second while Redis is away: watched tells what matters of it.
func (l redisLogger) Printf(ctx context.Context, format string, v ...any) {
	l.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, v...))
}
