package sim

import (
	"context"
	"log/slog"
	"strings"
)

// noteLog puts what a region logs as an error into the trace.
type noteLog struct {
	s     *site
	attrs []slog.Attr
}

func (l noteLog) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError && !l.s.r.quiet
}

func (l noteLog) Handle(_ context.Context, rec slog.Record) error {
	var b strings.Builder
	add := func(a slog.Attr) bool {
		if a.Key != "part" && a.Key != "region" && a.Key != "role" {
			b.WriteString(" " + a.String())
		}
		return true
	}
	for _, a := range l.attrs {
		add(a)
	}
	rec.Attrs(add)
	l.s.r.note("%s logs: %s%s", l.s.id, rec.Message, b.String())
	return nil
}

func (l noteLog) WithAttrs(a []slog.Attr) slog.Handler {
	return noteLog{l.s, append(append([]slog.Attr(nil), l.attrs...), a...)}
}

func (l noteLog) WithGroup(string) slog.Handler { return l }
