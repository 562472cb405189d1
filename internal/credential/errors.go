package credential

import (
	"errors"
	"fmt"
)

// Error is why a provider could not do something. Its text has no secret, since it becomes a status message.
type Error struct {
	// Reason is one of the reasons of a CredentialProvider's condition Ready.
	Reason string
	// Message says what is wrong, and what to change.
	Message string
	// Transient means that the same call may succeed later without anybody changing anything.
	Transient bool
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Errorf returns an error that a person has to act on.
func Errorf(reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Transientf returns an error that may pass by itself.
func Transientf(reason, format string, args ...any) *Error {
	e := Errorf(reason, format, args...)
	e.Transient = true
	return e
}

// MessageOf returns what a status may say of an error: what is no Error may contain anything.
func MessageOf(err error) string {
	if e := AsError(err); e != nil {
		return e.Message
	}
	return "the operator's log says why"
}

// AsError returns the Error in a chain of errors, nil when there is none.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return nil
}
