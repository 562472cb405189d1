package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

// PostgreSQL's error codes that are treated in a way of their own.
const (
	codeInvalidText          = "22P02"
	codeInvalidParameter     = "22023"
	codeUniqueViolation      = "23505"
	codeInvalidPassword      = "28P01"
	codeInvalidAuthorization = "28000"
	codeDependentObjects     = "2BP01"
	codeUnknownDatabase      = "3D000"
	codeUnknownSchema        = "3F000"
	codeSerialization        = "40001"
	codeDeadlock             = "40P01"
	codePermissionDenied     = "42501"
	codeUnknownFunction      = "42883"
	codeUnknownObject        = "42704"
	codeDuplicateObject      = "42710"
	codeUnknownTable         = "42P01"
	codeTooManyConnections   = "53300"
	codeLockTimeout          = "55P03"
	codeQueryCanceled        = "57014"
	codeInternalError        = "XX000"
)

// describe returns the error that the caller gets: of type *credential.Error where the cause is known. It has none of the server's
// details, hints and statements, since these contain values. `doing` is what failed, as a gerund.
func (p *Provider) describe(ctx context.Context, err error, doing string) error {
	if err == nil {
		return nil
	}
	if known := credential.AsError(err); known != nil {
		return known
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	}
	known := p.classify(err)
	known.Message = fmt.Sprintf("%s: %s", doing, known.Message)
	return known
}

func (p *Provider) classify(err error) *credential.Error {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return p.classifyAnswer(answer)
	}
	if message := tlsProblem(err); message != "" {
		return credential.Errorf(v1alpha1.ReasonTLSFailed, "%s: %s", p.address(), message)
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok {
		if unknown.IsNotFound {
			return credential.Transientf(v1alpha1.ReasonUnreachable, "host %s is not found", p.Host)
		}
		return credential.Transientf(v1alpha1.ReasonUnreachable, "looking up host %s fails", p.Host)
	}
	if pgconn.Timeout(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return credential.Transientf(v1alpha1.ReasonUnreachable, "%s does not answer in time", p.address())
	}
	if errors.Is(err, puddle.ErrClosedPool) {
		return credential.Transientf(v1alpha1.ReasonServerError, "the provider has got new settings meanwhile")
	}
	if disconnected(err) {
		return credential.Transientf(v1alpha1.ReasonUnreachable, "%s does not accept connections, or has closed one", p.address())
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return credential.Errorf(v1alpha1.ReasonAuthenticationFailed,
			"%s asks for a way to authenticate that is not accepted: it has to be scram-sha-256", p.address())
	}
	return credential.Transientf(v1alpha1.ReasonServerError, "%s gives an answer that is not understood", p.address())
}

// classifyAnswer is about errors that the server has sent. Its own message is repeated only where it can't contain a value.
func (p *Provider) classifyAnswer(answer *pgconn.PgError) *credential.Error {
	said := fmt.Sprintf("%s (%s)", answer.Message, answer.Code)
	switch answer.Code {
	case codeInvalidPassword, codeInvalidAuthorization:
		return credential.Errorf(v1alpha1.ReasonAuthenticationFailed, "the server says: %s", said)
	case codeUnknownDatabase:
		return credential.Errorf(v1alpha1.ReasonDatabaseNotFound, "the server says: %s", said)
	case codeUnknownSchema, codeUnknownFunction, codeUnknownTable:
		return credential.Errorf(v1alpha1.ReasonSchemaNotInstalled, "database %s lacks the schema tenantry, or a part of it: "+
			"run tenantry.sql there", p.Database)
	case codeInvalidParameter, codeUnknownObject:
		return credential.Errorf(v1alpha1.ReasonSchemaNotInstalled, "the server lacks the roles of the schema tenantry: "+
			"run tenantry.sql in database %s", p.Database)
	case codePermissionDenied:
		return credential.Errorf(v1alpha1.ReasonPermissionDenied, "the server says: %s%s", said, p.membershipHint(answer.Message))
	case codeTooManyConnections:
		return credential.Transientf(v1alpha1.ReasonServerError, "%s has no connection left", p.address())
	case codeLockTimeout, codeQueryCanceled:
		return credential.Transientf(v1alpha1.ReasonServerError, "somebody holds a lock for too long (%s)", answer.Code)
	}
	switch answer.Code[:min(2, len(answer.Code))] {
	case "57": // the server shuts down or starts
		return credential.Transientf(v1alpha1.ReasonUnreachable, "%s does not accept connections now (%s)", p.address(), answer.Code)
	case "08", "25", "40", "53", "55", "58", "2B":
		return credential.Transientf(v1alpha1.ReasonServerError, "%s can't do it now (%s)", p.address(), answer.Code)
	}
	return credential.Transientf(v1alpha1.ReasonServerError, "%s answers with the error %s, which its log explains", p.address(), answer.Code)
}

// membershipHint says what to do where the operator's login is no member of its role, or may not use its schema.
func (p *Provider) membershipHint(message string) string {
	if strings.Contains(message, "tenantry") {
		return fmt.Sprintf("; %s has to be a member of tenantry_operator: GRANT tenantry_operator TO %[1]s", p.Username)
	}
	return ""
}

// tlsProblem returns what is wrong with the server's certificate, or nothing when that is not the cause.
func tlsProblem(err error) string {
	if wrong, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for another name: " + wrong.Error()
	}
	if wrong, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "its certificate is not accepted: " + wrong.Error()
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is signed by an unknown authority: set caSecretRef"
	}
	if wrong, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not accepted: " + wrong.Error()
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "it does not speak TLS"
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return "it ends the TLS handshake"
	}
	if strings.Contains(err.Error(), "server refused TLS connection") {
		return "it offers no TLS"
	}
	return ""
}

// disconnected says whether there is no connection, or not any more.
func disconnected(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, pgconn.ErrConnClosed)
}

// hasCode says whether the server has answered with one of the codes.
func hasCode(err error, codes ...string) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, answer.Code)
}

// isConflict says whether somebody else has changed the same role at the same time. The catalogue has no locks that wait for that.
func isConflict(err error) bool {
	if hasCode(err, codeSerialization, codeDeadlock, codeUniqueViolation) {
		return true
	}
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Code == codeInternalError && strings.HasPrefix(answer.Message, "tuple concurrently ")
}

// isDisconnect says whether the connection has broken, for example since the server was restarted. What the server did is unknown.
func isDisconnect(err error) bool {
	return disconnected(err) || hasCode(err, "57P01", "57P02")
}
