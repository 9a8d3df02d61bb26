package rpc

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/cloudwego/kitex/pkg/klog"
)

var useLogger sync.Mutex

// UseLogger sends what Kitex logs to logger. Kitex has one logger for a process: the last call wins.
func UseLogger(logger *slog.Logger) {
	useLogger.Lock()
	defer useLogger.Unlock()
	klog.SetLogger(&bridge{logger.With("library", "kitex")})
}

// bridge is slog as Kitex's logger. Level and output are slog's: Kitex cannot change them.
type bridge struct{ log *slog.Logger }

// A node that is away is told once by us; Kitex would tell of each of its own attempts to reach it, in every beat.
const retryNotice = "KITEX: auto retry"

func (b *bridge) print(ctx context.Context, level slog.Level, message string) {
	b.log.LogAttrs(ctx, level, "kitex", slog.String("message", message))
}

const levelTrace = slog.LevelDebug - 4

func (b *bridge) logf(ctx context.Context, level slog.Level, format string, v []any) {
	if strings.HasPrefix(format, retryNotice) {
		level = slog.LevelDebug
	}
	if b.log.Enabled(ctx, level) {
		b.print(ctx, level, fmt.Sprintf(format, v...))
	}
}

func (b *bridge) logv(level slog.Level, v []any) {
	if ctx := context.Background(); b.log.Enabled(ctx, level) {
		b.print(ctx, level, fmt.Sprint(v...))
	}
}

func (b *bridge) Trace(v ...any)  { b.logv(levelTrace, v) }
func (b *bridge) Debug(v ...any)  { b.logv(slog.LevelDebug, v) }
func (b *bridge) Info(v ...any)   { b.logv(slog.LevelInfo, v) }
func (b *bridge) Notice(v ...any) { b.logv(slog.LevelInfo, v) }
func (b *bridge) Warn(v ...any)   { b.logv(slog.LevelWarn, v) }
func (b *bridge) Error(v ...any)  { b.logv(slog.LevelError, v) }
func (b *bridge) Fatal(v ...any)  { b.logv(slog.LevelError, v) } // a library does not end the process

func (b *bridge) Tracef(f string, v ...any)  { b.logf(context.Background(), levelTrace, f, v) }
func (b *bridge) Debugf(f string, v ...any)  { b.logf(context.Background(), slog.LevelDebug, f, v) }
func (b *bridge) Infof(f string, v ...any)   { b.logf(context.Background(), slog.LevelInfo, f, v) }
func (b *bridge) Noticef(f string, v ...any) { b.logf(context.Background(), slog.LevelInfo, f, v) }
func (b *bridge) Warnf(f string, v ...any)   { b.logf(context.Background(), slog.LevelWarn, f, v) }
func (b *bridge) Errorf(f string, v ...any)  { b.logf(context.Background(), slog.LevelError, f, v) }
func (b *bridge) Fatalf(f string, v ...any)  { b.logf(context.Background(), slog.LevelError, f, v) }

func (b *bridge) CtxTracef(ctx context.Context, f string, v ...any) { b.logf(ctx, levelTrace, f, v) }
func (b *bridge) CtxDebugf(ctx context.Context, f string, v ...any) {
	b.logf(ctx, slog.LevelDebug, f, v)
}
func (b *bridge) CtxInfof(ctx context.Context, f string, v ...any) { b.logf(ctx, slog.LevelInfo, f, v) }
func (b *bridge) CtxNoticef(ctx context.Context, f string, v ...any) {
	b.logf(ctx, slog.LevelInfo, f, v)
}
func (b *bridge) CtxWarnf(ctx context.Context, f string, v ...any) { b.logf(ctx, slog.LevelWarn, f, v) }
func (b *bridge) CtxErrorf(ctx context.Context, f string, v ...any) {
	b.logf(ctx, slog.LevelError, f, v)
}
func (b *bridge) CtxFatalf(ctx context.Context, f string, v ...any) {
	b.logf(ctx, slog.LevelError, f, v)
}

func (b *bridge) SetLevel(klog.Level) {}
func (b *bridge) SetOutput(io.Writer) {}
