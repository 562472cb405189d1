package main

import (
	"github.com/go-logr/logr"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
)

// newLogger returns the logger that the flags configure.
func newLogger(o *zap.Options) logr.Logger {
	lazy := uberzap.WrapCore(func(c zapcore.Core) zapcore.Core { return lazyCore{c} })
	return zap.New(zap.UseFlagOptions(o), zap.RawZapOpts(lazy))
}

// lazyCore encodes a logger's values only when the logger logs something. Every Reconcile has a logger of its own, and few
// log anything.
type lazyCore struct{ zapcore.Core }

// With implements zapcore.Core.
func (c lazyCore) With(fields []zapcore.Field) zapcore.Core {
	return lazyCore{zapcore.NewLazyWith(c.Core, fields)}
}
