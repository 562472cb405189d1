package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, time.November, 23, 3, 30, 0, 0, time.UTC)

// acme is the environment of a run for a tenant whose day, at the time now, is still the 22nd.
var acme = environment{
	"TENANT_ID":                   "9f1c",
	"TENANT_NAME":                 "acme",
	"TENANTRY_NAMESPACE":          "tenant-acme",
	"TENANTRY_TENANT_UID":         "tenant-uid",
	"TENANTRY_TIME_ZONE":          "America/New_York",
	"TENANTRY_ATTRIBUTE_CURRENCY": "USD",
	"TENANTRY_JOB_NAME":           "run-1",
	"TENANTRY_JOB_UID":            "run-uid",
	"TENANTRY_TEMPLATE":           "a-template",
	"TENANTRY_QUEUE":              "a-queue",
}

func (e environment) with(more environment) environment {
	merged := maps.Clone(e)
	maps.Copy(merged, more)
	return merged
}

const (
	started     = `level=INFO msg=started`
	done        = `level=INFO msg=done`
	acmeStarted = ` tenantID=9f1c tenantUID=tenant-uid namespace=tenant-acme jobName=run-1 jobUID=run-uid` +
		` template=a-template queue=a-queue fanOut="" timeZone=America/New_York attribute.CURRENCY=USD`
)

func TestRun(t *testing.T) {
	tests := map[string]struct {
		command  string
		env      environment
		wantCode int
		want     []string // without the tenant and command that every line ends in
	}{
		"a job says for whom it does what": {
			command: "process-payment",
			env:     acme.with(environment{"PAYMENT_ID": "8231"}),
			want: []string{
				started,
				`level=INFO msg="would charge payment 8231 in USD, with idempotency key \"run-uid\""`,
				done,
			},
		},
		"the day is the tenant's": {
			command: "check-expired-subscriptions",
			env:     acme.with(environment{"GRACE_DAYS": "3"}),
			want: []string{
				started,
				`level=INFO msg="would disconnect users whose subscription ended more than 3 days ago,` +
					` before 2026-11-19 in America/New_York"`,
				done,
			},
		},
		"a late run does its own day's work": {
			command: "update-dashboard-stats",
			env:     acme.with(environment{"WINDOW_DAYS": "1", "TENANTRY_SCHEDULED_TIME": "2026-11-01T12:00:00Z"}),
			want: []string{
				started,
				`level=INFO msg="would compute the dashboard of the last 1 days, since 2026-10-31 in America/New_York"`,
				done,
			},
		},
		"fails when told to": {
			command:  "check-expired-sessions",
			env:      acme.with(environment{"IDLE_MINUTES": "30", "SIMULATE_FAILURE": "true"}),
			wantCode: exitFailed,
			want: []string{
				started,
				`level=INFO msg="would close sessions that were idle for more than 30 minutes"`,
				`level=ERROR msg="failed, as SIMULATE_FAILURE told it to"`,
			},
		},
		"what events should have dispatched": {
			command: "disconnect-user",
			env:     acme.with(environment{"USER_ID": "pending", "REASON": "expired"}),
			want: []string{
				started,
				`level=INFO msg="would disconnect every user that is pending everywhere, reason expired"`,
				done,
			},
		},
		"no tenant": {
			command:  "update-vpn-status",
			env:      environment{"HANDSHAKE_SECONDS": "180"},
			wantCode: exitRefused,
			want: []string{
				`level=ERROR msg="refused: TENANT_ID is not set, and without a tenant there is nothing to do"`,
			},
		},
		"parameters that make no sense, all at once": {
			command: "process-grace-period",
			env: acme.with(environment{
				"LIMIT_KBPS": "fast\nlevel=INFO msg=done", "RUN_SECONDS": "-1", "SIMULATE_FAILURE": "maybe",
			}),
			wantCode: exitRefused,
			want: []string{
				`level=ERROR msg="refused: GRACE_DAYS is not set; LIMIT_KBPS is no whole number: \"fast\\nlevel=INFO msg=done\";` +
					` RUN_SECONDS is no whole number: \"-1\"; SIMULATE_FAILURE is neither true nor false: \"maybe\""`,
			},
		},
		"a time zone that does not exist": {
			command:  "update-dashboard-stats",
			env:      acme.with(environment{"WINDOW_DAYS": "30", "TENANTRY_TIME_ZONE": "Mars/Base"}),
			wantCode: exitRefused,
			want: []string{
				`level=ERROR msg="refused: reading TENANTRY_TIME_ZONE: unknown time zone Mars/Base"`,
			},
		},
		"a scheduled time that is none": {
			command:  "update-dashboard-stats",
			env:      acme.with(environment{"WINDOW_DAYS": "30", "TENANTRY_SCHEDULED_TIME": "noon"}),
			wantCode: exitRefused,
			want: []string{
				`level=ERROR msg="refused: TENANTRY_SCHEDULED_TIME is no RFC 3339 time: \"noon\""`,
			},
		},
		"a subcommand that does not exist": {
			command:  "mine-bitcoin",
			env:      acme,
			wantCode: exitRefused,
			want: []string{
				`level=ERROR msg="refused: there is no subcommand \"mine-bitcoin\", see help"`,
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			code := run(t.Context(), []string{tc.command}, tc.env, now, &out)
			if code != tc.wantCode {
				t.Errorf("exit code %d, want %d", code, tc.wantCode)
			}
			var want strings.Builder
			for _, line := range tc.want {
				fmt.Fprintf(&want, "%s tenant=%s command=%s", line, cmp.Or(tc.env["TENANT_NAME"], `""`), tc.command)
				if line == started {
					want.WriteString(acmeStarted)
				}
				want.WriteString("\n")
			}
			if out.String() != want.String() {
				t.Errorf("output\n%swant\n%s", out.String(), want.String())
			}
		})
	}
}

func TestFailsForATenantInMaintenance(t *testing.T) {
	tests := map[string]int{"true": exitFailed, "false": 0, "": 0}
	for attribute, want := range tests {
		t.Run(fmt.Sprintf("maintenance is %q", attribute), func(t *testing.T) {
			var out strings.Builder
			env := acme.with(environment{"WINDOW_DAYS": "30", "TENANTRY_ATTRIBUTE_MAINTENANCE": attribute})
			code := run(t.Context(), []string{"update-dashboard-stats"}, env, now, &out)
			said := strings.Contains(out.String(), "the tenant's database is in maintenance")
			if code != want || said != (want == exitFailed) {
				t.Errorf("exit code %d, want %d, output %s", code, want, out.String())
			}
		})
	}
}

func TestUsage(t *testing.T) {
	tests := map[string]struct {
		args     []string
		wantCode int
	}{
		"asked for":     {args: []string{"help"}},
		"no subcommand": {wantCode: exitRefused},
		"more than one": {args: []string{"check-routers", "probe"}, wantCode: exitRefused},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if code := run(t.Context(), tc.args, acme, now, &out); code != tc.wantCode {
				t.Errorf("exit code %d, want %d", code, tc.wantCode)
			}
			for _, j := range jobs {
				if !strings.Contains(out.String(), "\n  "+j.name+"\n") {
					t.Errorf("usage does not name %s", j.name)
				}
			}
		})
	}
}

// stopper is an output that stops the run when a text is written to it.
type stopper struct {
	strings.Builder
	at   string
	stop context.CancelFunc
}

func (s *stopper) Write(line []byte) (int, error) {
	if strings.Contains(string(line), s.at) {
		s.stop()
	}
	return s.Builder.Write(line)
}

func TestStoppedWhileRunning(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out := &stopper{at: "would ", stop: cancel}
	env := acme.with(environment{"BATCH_SIZE": "500", "RUN_SECONDS": "3600", "SIMULATE_FAILURE": "true"})

	code := run(ctx, []string{"sync-radius-accounting"}, env, now, out)

	if code != exitStopped {
		t.Errorf("exit code %d, want %d", code, exitStopped)
	}
	want := `level=WARN msg="stopped by a signal before it was done" tenant=acme command=sync-radius-accounting` + "\n"
	if !strings.HasSuffix(out.String(), want) {
		t.Errorf("output\n%swant at its end\n%s", out.String(), want)
	}
}
