package conformance

import (
	"slices"
	"testing"

	"github.com/tenantry/tenantry/internal/credential"
)

func TestSoundProvider(t *testing.T) { Run(t, newSource(false).options()) }

func TestSoundProviderInSteps(t *testing.T) { Run(t, newSource(false, "is not atomic").options()) }

func TestSoundSharedProvider(t *testing.T) { Run(t, newSource(true).options()) }

// A provider with a fault fails the check of the promise that it breaks.
func TestBrokenProviders(t *testing.T) {
	tests := map[string]struct {
		shared bool
		check  string
	}{
		"has no type":                        {check: "what is issued is accepted"},
		"ignores its context":                {check: "an expired context is an error"},
		"prints":                             {check: "no secret is printed"},
		"absent is an error":                 {check: "revoking what does not exist is a success"},
		"never expires":                      {check: "the expiry is what was asked for"},
		"keeps replaced secrets":             {check: "issuing again replaces the secret"},
		"keeps sessions of replaced secrets": {check: "issuing again replaces the secret"},
		"one secret for all":                 {check: "each run has a credential of its own"},
		"revokes everybody":                  {check: "each run has a credential of its own"},
		"keeps sessions":                     {check: "what is revoked is dead"},
		"keeps the secret":                   {check: "what is revoked is dead"},
		"leaves something":                   {check: "what is revoked is dead"},
		"never again":                        {check: "what is revoked can be issued again"},
		"lists from memory":                  {check: "what is listed is what lives"},
		"lists no run":                       {check: "what is listed is what lives"},
		"lists everybody's":                  {check: "nobody lists another cluster's"},
		"lists late":                         {check: "dying while issuing"},
		"forgets a secret when it dies":      {check: "dying while issuing again"},
		"unlists early":                      {check: "dying while revoking"},
		"never dies":                         {check: "what has expired is refused"},
	}
	for fault, test := range tests {
		t.Run(fault, func(t *testing.T) {
			o := newSource(test.shared, fault).options()
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == test.check })
			if i < 0 {
				t.Fatalf("there is no check %q", test.check)
			}
			if err := o.verify(t.Context(), checks[i]); err == nil {
				t.Errorf("%q finds nothing", test.check)
			} else {
				t.Log(err)
			}
		})
	}
	// Calls at the same time break the same promises, as far as a provider in memory is concerned.
	for fault, name := range map[string]string{
		"keeps replaced secrets": "of those issued at the same time one is accepted",
		"absent is an error":     "revoking again is a success",
		"keeps sessions":         "revoking at the same time is a success",
	} {
		t.Run(name, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == name })
			if err := newSource(false, fault).options().verify(t.Context(), checks[i]); err == nil {
				t.Errorf("%q finds nothing", name)
			}
		})
	}
}

// A process that never dies would test nothing.
func TestProviderThatDoesNotDie(t *testing.T) {
	o := newSource(false).options()
	o.Dying = func(int) (credential.Provider, func() bool, error) {
		p, err := o.New()
		return p, func() bool { return false }, err
	}
	i := slices.IndexFunc(checks, func(c check) bool { return c.name == "dying while revoking" })
	if err := o.verify(t.Context(), checks[i]); err == nil {
		t.Error("nobody notices")
	}
}
