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

var bridged sync.Once

// bridge makes Kitex log through logger. Kitex has one logger for the process, so the first one counts.
func bridge(logger *slog.Logger) {
	if logger != nil {
		bridged.Do(func() { klog.SetLogger(kitexLog{logger}) })
	}
}

// kitexLog is klog's face of a slog.Logger. Kitex's fatal is an error here: only main ends the process.
type kitexLog struct{ to *slog.Logger }

// A gate that is away is told by us; Kitex would tell of each of its own attempts to reach it, too.
const retryNotice = "KITEX: auto retry"

func (k kitexLog) log(level slog.Level, text string) {
	k.to.LogAttrs(context.Background(), level, "kitex", slog.String("text", text))
}

func (k kitexLog) line(level slog.Level, v []any) {
	if k.to.Enabled(context.Background(), level) {
		k.log(level, fmt.Sprint(v...))
	}
}

func (k kitexLog) format(level slog.Level, format string, v []any) {
	if strings.HasPrefix(format, retryNotice) {
		level = slog.LevelDebug
	}
	if k.to.Enabled(context.Background(), level) {
		k.log(level, fmt.Sprintf(format, v...))
	}
}

func (k kitexLog) Trace(v ...any)  { k.line(slog.LevelDebug, v) }
func (k kitexLog) Debug(v ...any)  { k.line(slog.LevelDebug, v) }
func (k kitexLog) Info(v ...any)   { k.line(slog.LevelDebug, v) }
func (k kitexLog) Notice(v ...any) { k.line(slog.LevelInfo, v) }
func (k kitexLog) Warn(v ...any)   { k.line(slog.LevelWarn, v) }
func (k kitexLog) Error(v ...any)  { k.line(slog.LevelError, v) }
func (k kitexLog) Fatal(v ...any)  { k.line(slog.LevelError, v) }

func (k kitexLog) Tracef(f string, v ...any)  { k.format(slog.LevelDebug, f, v) }
func (k kitexLog) Debugf(f string, v ...any)  { k.format(slog.LevelDebug, f, v) }
func (k kitexLog) Infof(f string, v ...any)   { k.format(slog.LevelDebug, f, v) }
func (k kitexLog) Noticef(f string, v ...any) { k.format(slog.LevelInfo, f, v) }
func (k kitexLog) Warnf(f string, v ...any)   { k.format(slog.LevelWarn, f, v) }
func (k kitexLog) Errorf(f string, v ...any)  { k.format(slog.LevelError, f, v) }
func (k kitexLog) Fatalf(f string, v ...any)  { k.format(slog.LevelError, f, v) }

func (k kitexLog) CtxTracef(_ context.Context, f string, v ...any)  { k.Tracef(f, v...) }
func (k kitexLog) CtxDebugf(_ context.Context, f string, v ...any)  { k.Debugf(f, v...) }
func (k kitexLog) CtxInfof(_ context.Context, f string, v ...any)   { k.Infof(f, v...) }
func (k kitexLog) CtxNoticef(_ context.Context, f string, v ...any) { k.Noticef(f, v...) }
func (k kitexLog) CtxWarnf(_ context.Context, f string, v ...any)   { k.Warnf(f, v...) }
func (k kitexLog) CtxErrorf(_ context.Context, f string, v ...any)  { k.Errorf(f, v...) }
func (k kitexLog) CtxFatalf(_ context.Context, f string, v ...any)  { k.Fatalf(f, v...) }

// SetLevel and SetOutput are for slog's handler to say.
func (kitexLog) SetLevel(klog.Level) {}
func (kitexLog) SetOutput(io.Writer) {}
