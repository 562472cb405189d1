package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tenantry/tenantry/internal/credential"
)

func TestIssue(t *testing.T) {
	p := open(t, settings(newApplication(t)))
	r := request(p, "run-1", acme)
	issued := issue(t, p, r)

	if left := time.Until(issued.ExpirationTime); left < 9*time.Minute || left > 11*time.Minute {
		t.Errorf("expires in %s", left)
	}
	conn := session(t, issued.Values)
	if got := queryText(t, conn, "SELECT tenantry.current_tenant()"); got != acme {
		t.Errorf("current_tenant() = %s", got)
	}
	if got := queryText(t, conn, "SELECT string_agg(reference, ', ') FROM app.payments"); got != "of acme" {
		t.Errorf("rows: %s", got)
	}
	role := string(issued.Values["username"])
	attributes := `SELECT (rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit)
		FROM pg_roles WHERE rolname = $1`
	if got := queryText(t, conn, attributes, role); got != "(t,f,f,f,f,f,5)" {
		t.Errorf("attributes of the role: %s", got)
	}
	listed, err := p.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []credential.Issued{{Handle: r.Handle, Run: r.Run, ExpirationTime: issued.ExpirationTime}}
	if diff := cmp.Diff(want, listed); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
	log := server.Log()
	if strings.Contains(log, string(issued.Values["password"])) {
		t.Error("the password is in the server's log")
	}
	if !strings.Contains(log, "SCRAM-SHA-256$4096:") {
		t.Error("the server's log does not show what it was sent, so the search in it proves nothing")
	}
}

func TestBinding(t *testing.T) {
	s := settings("billing")
	s.Host, s.Port = "2001:db8::1", 5433
	tests := map[string]struct {
		change func(*Settings)
		target target
		want   map[string]string
	}{
		"with a CA": {
			target: target{database: "billing"},
			want: map[string]string{"host": "2001:db8::1", "port": "5433", "database": "billing", "username": "role", "password": "secret",
				"sslmode": "verify-full", "ca.crt": string(s.CA)},
		},
		"without a CA, in a schema": {
			change: func(s *Settings) { s.CA = nil },
			target: target{database: "a b", schema: "acme"},
			want: map[string]string{"host": "2001:db8::1", "port": "5433", "database": "a b", "username": "role", "password": "secret",
				"sslmode": "verify-full", "schema": "acme",
				"uri": "postgresql://role:secret@[2001:db8::1]:5433/a%20b?sslmode=verify-full"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			changed := s
			if test.change != nil {
				test.change(&changed)
			}
			got := map[string]string{}
			for key, value := range (&Provider{Settings: changed}).values(test.target, "role", "secret") {
				got[key] = string(value)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}
