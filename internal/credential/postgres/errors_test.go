package postgres

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
	"github.com/tenantry/tenantry/internal/credential/postgres/postgrestest"
)

// expectError fails the test unless the error has the reason and a part of the message, and no secret.
func expectError(t *testing.T, err error, reason, message string, transient bool) {
	t.Helper()
	known := credential.AsError(err)
	if known == nil {
		t.Fatalf("error %v, want %s", err, reason)
	}
	if known.Reason != reason || known.Transient != transient || !strings.Contains(known.Message, message) {
		t.Errorf("%s (transient: %t): %s, want %s (transient: %t): … %s …", known.Reason, known.Transient, known.Message, reason, transient, message)
	}
	for _, secret := range []string{operatorPassword, server.Password, "SCRAM-SHA", "SELECT"} {
		if strings.Contains(fmt.Sprintf("%v %+v", err, known), secret) {
			t.Errorf("the error has %q: %v", secret, err)
		}
	}
}

func TestReasons(t *testing.T) {
	otherCA, err := postgrestest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := int32(closed.Addr().(*net.TCPAddr).Port)
	_ = closed.Close()
	database := newApplication(t)
	server.Exec(t, database, `DO $$ BEGIN IF to_regrole('stranger') IS NULL THEN CREATE ROLE stranger LOGIN PASSWORD 'stranger'; END IF; END $$;
		GRANT CONNECT ON DATABASE `+database+` TO stranger`)
	server.Exec(t, "postgres", "CREATE DATABASE bare")
	t.Cleanup(func() {
		exec(t, server.Config("postgres", postgrestest.Superuser, server.Password), "DROP DATABASE bare WITH (FORCE)")
	})

	tests := map[string]struct {
		change    func(*Settings)
		reason    string
		message   string
		transient bool
	}{
		"host that does not exist": {
			change: func(s *Settings) { s.Host = "no-such-host.invalid" },
			reason: v1alpha1.ReasonUnreachable, message: "no-such-host.invalid", transient: true,
		},
		"nobody listens": {
			change: func(s *Settings) { s.Port = port },
			reason: v1alpha1.ReasonUnreachable, message: "does not accept connections", transient: true,
		},
		"wrong password": {
			change: func(s *Settings) { s.Password = "wrong" },
			reason: v1alpha1.ReasonAuthenticationFailed, message: `password authentication failed for user "operator"`,
		},
		"unknown user": {
			change: func(s *Settings) { s.Username = "nobody" },
			reason: v1alpha1.ReasonAuthenticationFailed, message: `"nobody"`,
		},
		"other CA": {
			change: func(s *Settings) { s.CA = otherCA },
			reason: v1alpha1.ReasonTLSFailed, message: "unknown authority",
		},
		"the system's CAs": {
			change: func(s *Settings) { s.CA = nil },
			reason: v1alpha1.ReasonTLSFailed, message: "unknown authority",
		},
		"other CA, verify-ca": {
			change: func(s *Settings) { s.CA, s.SSLMode = otherCA, v1alpha1.SSLVerifyCA },
			reason: v1alpha1.ReasonTLSFailed, message: "unknown authority",
		},
		"database that does not exist": {
			change: func(s *Settings) { s.Database = "nonexistent" },
			reason: v1alpha1.ReasonDatabaseNotFound, message: `"nonexistent"`,
		},
		"database without the schema": {
			change: func(s *Settings) { s.Database = "bare" },
			reason: v1alpha1.ReasonSchemaNotInstalled, message: "run tenantry.sql",
		},
		"no member of tenantry_operator": {
			change: func(s *Settings) { s.Username, s.Password = "stranger", "stranger" },
			reason: v1alpha1.ReasonPermissionDenied, message: "GRANT tenantry_operator TO stranger",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := settings(database)
			test.change(&s)
			p := open(t, s)
			_, err := p.Issue(t.Context(), request(p, "run", acme))
			expectError(t, err, test.reason, test.message, test.transient)
			expectError(t, p.Revoke(t.Context(), request(p, "run", acme).Handle), test.reason, test.message, test.transient)
			_, err = p.List(t.Context())
			expectError(t, err, test.reason, test.message, test.transient)
			_, err = p.Check(t.Context(), nil)
			expectError(t, err, test.reason, test.message, test.transient)
		})
	}
}

func TestCertificates(t *testing.T) {
	database := newApplication(t)
	t.Cleanup(func() {
		if err := server.SetCertificate(postgrestest.Certificate{}); err != nil {
			t.Error(err)
		}
		exec(t, withoutTLS(), "SELECT pg_reload_conf()")
	})
	tests := map[string]struct {
		certificate postgrestest.Certificate
		mode        v1alpha1.SSLMode
		message     string // empty means that it is accepted
	}{
		"other name, verify-full": {certificate: postgrestest.Certificate{Name: "db.example.com"}, mode: v1alpha1.SSLVerifyFull, message: "for another name"},
		"other name, verify-ca":   {certificate: postgrestest.Certificate{Name: "db.example.com"}, mode: v1alpha1.SSLVerifyCA},
		"expired, verify-full":    {certificate: postgrestest.Certificate{Expired: true}, mode: v1alpha1.SSLVerifyFull, message: "expired"},
		"expired, verify-ca":      {certificate: postgrestest.Certificate{Expired: true}, mode: v1alpha1.SSLVerifyCA, message: "expired"},
		"disable":                 {mode: v1alpha1.SSLDisable},
		"require":                 {mode: v1alpha1.SSLRequire},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := server.SetCertificate(test.certificate); err != nil {
				t.Fatal(err)
			}
			exec(t, withoutTLS(), "SELECT pg_reload_conf()")
			s := settings(database)
			s.SSLMode = test.mode
			p := open(t, s)
			awaitCertificate(t, server.Serial())
			_, err := p.List(t.Context())
			if test.message == "" {
				if err != nil {
					t.Errorf("error: %v", err)
				}
				return
			}
			expectError(t, err, v1alpha1.ReasonTLSFailed, test.message, false)
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		exec(t, withoutTLS(), "ALTER SYSTEM SET ssl = off")
		exec(t, withoutTLS(), "SELECT pg_reload_conf()")
		t.Cleanup(func() { exec(t, withoutTLS(), "ALTER SYSTEM SET ssl = on") })
		awaitCertificate(t, "")
		p := open(t, settings(database))
		_, err := p.List(t.Context())
		expectError(t, err, v1alpha1.ReasonTLSFailed, "offers no TLS", false)
	})
}

// Whoever is not verified, and asks for the password or for what md5 makes of it, gets neither.
func TestUnverifiedServerGetsNoPassword(t *testing.T) {
	for name, question := range map[string]pgproto3.BackendMessage{
		"the password": &pgproto3.AuthenticationCleartextPassword{},
		"md5":          &pgproto3.AuthenticationMD5Password{Salt: [4]byte{1, 2, 3, 4}},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", postgrestest.Host+":0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = listener.Close() }()
			answers := make(chan pgproto3.FrontendMessage, 1)
			go func() {
				defer close(answers)
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				backend := pgproto3.NewBackend(conn, conn)
				if _, err := backend.ReceiveStartupMessage(); err != nil {
					return
				}
				backend.Send(question)
				if backend.Flush() != nil || backend.SetAuthType(pgproto3.AuthTypeMD5Password) != nil {
					return
				}
				if answer, err := backend.Receive(); err == nil {
					answers <- answer
				}
			}()
			s := settings("any")
			s.Port, s.SSLMode = int32(listener.Addr().(*net.TCPAddr).Port), v1alpha1.SSLDisable
			_, err = open(t, s).List(t.Context())
			expectError(t, err, v1alpha1.ReasonAuthenticationFailed, "it has to be scram-sha-256", false)
			for answer := range answers {
				t.Errorf("the server got %T", answer)
			}
		})
	}
}

// withoutTLS returns how the superuser connects whatever certificate the server has.
func withoutTLS() *pgx.ConnConfig {
	config := server.Config("postgres", postgrestest.Superuser, server.Password)
	config.TLSConfig = nil
	return config
}

// awaitCertificate connects until the server, which reloads its settings some time after it was asked to, has the certificate with a
// serial number, or does not offer TLS.
func awaitCertificate(t *testing.T, serial string) {
	t.Helper()
	config := server.Config("postgres", postgrestest.Superuser, server.Password)
	for {
		current := ""
		config.TLSConfig = &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
			current = state.PeerCertificates[0].SerialNumber.String()
			return nil
		}}
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		if current == serial {
			return
		}
	}
}

// An older server can't be had in every test environment, so its answer is made up.
func TestOldServer(t *testing.T) {
	expectError(t, checkVersion(150018), v1alpha1.ReasonUnsupportedVersion, "PostgreSQL 15", false)
	if err := checkVersion(160000); err != nil {
		t.Error(err)
	}
}

func TestOldSchema(t *testing.T) {
	database := newApplication(t)
	server.Exec(t, database, "CREATE OR REPLACE FUNCTION tenantry.version() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 0")
	p := open(t, settings(database))
	_, err := p.List(t.Context())
	expectError(t, err, v1alpha1.ReasonSchemaNotInstalled, "run its tenantry.sql", false)
	server.Exec(t, database, Migration)
	issue(t, p, request(p, "run", acme))
}

// What the server says with an error is repeated only where it can't be a value.
func TestErrorsHaveNoValues(t *testing.T) {
	p := &Provider{Settings: settings("billing")}
	for _, code := range []string{"22P02", "23505", "42601", "XX000", "P0001", "53200"} {
		answer := &pgconn.PgError{Code: code, Message: "secret", Detail: "secret", Hint: "secret", Where: "secret", InternalQuery: "secret"}
		err := p.describe(t.Context(), fmt.Errorf("wrapped: %w", answer), "issuing")
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", code, err)
		}
		expectError(t, err, v1alpha1.ReasonServerError, code, true)
	}
}

// The server is restarted, crashes, or is down, between calls and at every step of them.
func TestRestarts(t *testing.T) {
	database := newApplication(t)
	p := open(t, settings(database))
	r := request(p, "run", acme)
	c := issue(t, p, r)
	restart := func(end func()) {
		end()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
	}
	restart(server.Stop)
	if listed, err := p.List(t.Context()); err != nil || len(listed) != 1 {
		t.Errorf("after a restart: %v, error: %v", listed, err)
	}
	restart(server.Crash)
	if err := p.Revoke(t.Context(), r.Handle); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	dead(t, p, c)

	server.Stop()
	_, err := p.Issue(t.Context(), r)
	expectError(t, err, v1alpha1.ReasonUnreachable, "does not accept connections", true)
	expectError(t, p.Revoke(t.Context(), r.Handle), v1alpha1.ReasonUnreachable, "does not accept connections", true)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err = p.Issue(t.Context(), r); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// The server ends the operator's sessions just before each of its statements. Nobody notices.
func TestSessionsOfOperatorEnd(t *testing.T) {
	database := newApplication(t)
	admin := server.Admin(t, database)
	var end bool
	p := open(t, settings(database), func(c *pgxpool.Config) {
		c.ConnConfig.Tracer = tracer(func(ctx context.Context, statement string) context.Context {
			if end && counted(statement) {
				end = false
				query := "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = 'operator'"
				if _, err := admin.Exec(context.Background(), query); err != nil {
					t.Error(err)
				}
			}
			return ctx
		})
	})
	r := request(p, "run", acme)
	for range 2 { // the first connects
		end = true
		c, err := p.Issue(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		session(t, c.Values)
		end = true
		if err := p.Revoke(t.Context(), r.Handle); err != nil {
			t.Fatal(err)
		}
		dead(t, p, c)
	}
}

// The password is changed, in the Secret and at the server: the controller makes a new provider.
func TestRotation(t *testing.T) {
	database := newApplication(t)
	before := open(t, settings(database))
	r := request(before, "run", acme)
	c, err := before.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	server.Exec(t, database, "CREATE ROLE operator_2 LOGIN PASSWORD 'two'; GRANT tenantry_operator TO operator_2; REVOKE tenantry_operator FROM operator")
	t.Cleanup(func() {
		exec(t, server.Config("postgres", postgrestest.Superuser, server.Password), "GRANT tenantry_operator TO operator; DROP ROLE operator_2")
	})
	s := settings(database)
	s.Username, s.Password = "operator_2", "two"
	after := open(t, s)
	if err := after.Revoke(t.Context(), r.Handle); err != nil {
		t.Fatalf("another login of the operator: %v", err)
	}
	dead(t, after, c)
	before.Close()
	_, err = before.List(t.Context())
	expectError(t, err, v1alpha1.ReasonServerError, "new settings", true)
}
