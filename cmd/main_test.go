package main

import (
	"strings"
	"testing"
)

// TestWrongFlags: a wrong value ends the manager before it asks the API server for anything, and the error names the flag.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		flags flags
		want  string
	}{
		"enforcement":               {flags{defaultEnforcement: "Strict"}, "--default-enforcement must be Audit, Warn or Enforce"},
		"DNS egress without a peer": {flags{defaultEnforcement: "Enforce", dnsEgress: "[{ports: [{port: 53}]}]"}, "--dns-egress is not valid: [0].to"},
	} {
		if err := run(t.Context(), tc.flags); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tc.want)
		}
	}
}
