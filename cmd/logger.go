package main

import (
	"encoding/json"

	"github.com/go-logr/logr"
	uberzap "go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/tenantry/tenantry/internal/conditions"
)

// newLogger returns the logger that the flags configure.
func newLogger(o *zap.Options) logr.Logger {
	wrap := uberzap.WrapCore(func(c zapcore.Core) zapcore.Core { return lazyCore{boundedCore{c}} })
	return zap.New(zap.UseFlagOptions(o), zap.RawZapOpts(wrap))
}

// lazyCore encodes a logger's values only when the logger logs something. Every Reconcile has a logger of its own, and few
// log anything.
type lazyCore struct{ zapcore.Core }

// With implements zapcore.Core.
func (c lazyCore) With(fields []zapcore.Field) zapcore.Core {
	return lazyCore{zapcore.NewLazyWith(c.Core, fields)}
}

// maxLogged is how many bytes are logged of a message or a value, at most.
const maxLogged = 2 << 10

// boundedCore cuts messages and values to maxLogged: an error of the API server quotes what a tenant's member has written,
// which may be a megabyte. It has to be the innermost wrapper, since its Check asks no other.
type boundedCore struct{ zapcore.Core }

// With implements zapcore.Core.
func (c boundedCore) With(fields []zapcore.Field) zapcore.Core {
	return boundedCore{c.Core.With(bounded(fields))}
}

// Check implements zapcore.Core.
func (c boundedCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// Write implements zapcore.Core.
func (c boundedCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	entry.Message = conditions.Cut(entry.Message, maxLogged)
	return c.Core.Write(entry, bounded(fields))
}

func bounded(fields []zapcore.Field) []zapcore.Field {
	all := make([]zapcore.Field, 0, len(fields))
	for _, f := range fields {
		if text := textOf(f); len(text) > maxLogged {
			f = uberzap.String(f.Key, conditions.Cut(text, maxLogged))
		}
		all = append(all, f)
	}
	return all
}

// textOf is what is logged of a value that may be long. It is empty for numbers and the like, and for objects, of which only
// the name is logged.
func textOf(f zapcore.Field) string {
	switch f.Type {
	case zapcore.StringType, zapcore.ByteStringType, zapcore.StringerType, zapcore.ErrorType, zapcore.ReflectType,
		zapcore.ObjectMarshalerType, zapcore.ArrayMarshalerType:
	default:
		return ""
	}
	if _, isObject := f.Interface.(runtime.Object); isObject {
		return ""
	}
	encoder := zapcore.NewMapObjectEncoder()
	f.AddTo(encoder)
	if text, isText := encoder.Fields[f.Key].(string); isText {
		return text
	}
	text, err := json.Marshal(encoder.Fields[f.Key])
	if err != nil {
		return "" // The encoder says so.
	}
	return string(text)
}
