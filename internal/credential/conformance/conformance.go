// Package conformance tests whether an implementation of credential.Provider keeps the promises of that interface. The test of a
// provider calls Run.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/internal/credential"
)

// Options say how to test a provider. Everything is required, except where it says what happens without.
type Options struct {
	// Capabilities of the provider.
	Capabilities credential.Capabilities
	// Cluster and Provider are the UIDs that the provider was made with. The suite computes handles from them.
	Cluster, Provider types.UID
	// Request is what the suite's requests are like. It sets Handle and Run.
	Request credential.Request
	// New returns a provider as another process of the operator would have it, with the same settings. It is called often. What it and
	// the other functions return is closed if it has a method Close.
	New func() (credential.Provider, error)
	// Stranger returns the provider that another cluster has for the same source. Without it, the suite does not test that they leave
	// each other's credentials alone.
	Stranger func() (credential.Provider, error)
	// Login uses a credential at the source. It returns a Refused error when the source does not accept it.
	Login func(ctx context.Context, c credential.Credential) (Session, error)
	// Dying returns a provider whose process dies at the given step of what it does with the source, counted from 1: from then on, all
	// that it does fails. `died` says whether that step was reached. Without it, the suite does not test that.
	Dying func(step int) (p credential.Provider, died func() bool, err error)
	// Expire brings about what the source does by itself when a credential expires. Without it, the suite does not test that.
	Expire func(ctx context.Context, h credential.Handle) error
	// Left returns how many things of the provider there are at the source, also those that it does not list. Without it, the suite
	// believes List.
	Left func(ctx context.Context) (int, error)
}

// Session is what a credential has opened.
type Session interface {
	// Use returns an error when the session has ended.
	Use(ctx context.Context) error
	Close()
}

// ErrRefused means that the source does not accept a credential.
var ErrRefused = errors.New("the source refuses the credential")

// check is the test of one promise. Its error says how the promise is broken.
type check struct {
	name string
	// applies says whether a provider makes the promise. Nil means that each does.
	applies func(Options) bool
	run     func(ctx context.Context, s *suite) error
}

// checks are all promises.
var checks = []check{
	{name: "what is issued is accepted", run: issueOnce},
	{name: "an expired context is an error", run: cancelledContext},
	{name: "no secret is printed", run: printsNothing},
	{name: "what is the tenant's own is not listed", applies: isShared, run: listsNothing},
	{name: "revoking what does not exist is a success", run: revokeAbsent},
	{name: "the expiry is what was asked for", applies: isPerRun, run: expiryAsRequested},
	{name: "issuing again replaces the secret", applies: isPerRun, run: issueAgain},
	{name: "of those issued at the same time one is accepted", applies: isPerRun, run: issueConcurrently},
	{name: "each run has a credential of its own", applies: isPerRun, run: issueForTwo},
	{name: "what is revoked is dead", applies: revokesAtOnce, run: revokeOnce},
	{name: "revoking again is a success", applies: revokesAtOnce, run: revokeAgain},
	{name: "revoking at the same time is a success", applies: revokesAtOnce, run: revokeConcurrently},
	{name: "what is revoked can be issued again", applies: revokesAtOnce, run: issueAfterRevoke},
	{name: "what is listed is what lives", applies: revokesAtOnce, run: listLiving},
	{name: "nobody lists another cluster's", applies: func(o Options) bool { return isPerRun(o) && o.Stranger != nil }, run: listOfStranger},
	{name: "dying while issuing", applies: func(o Options) bool { return revokesAtOnce(o) && o.Dying != nil }, run: dieIssuing},
	{name: "dying while issuing again", applies: func(o Options) bool { return revokesAtOnce(o) && o.Dying != nil }, run: dieIssuingAgain},
	{name: "dying while revoking", applies: func(o Options) bool { return revokesAtOnce(o) && o.Dying != nil }, run: dieRevoking},
	{name: "what has expired is refused", applies: func(o Options) bool { return isPerRun(o) && o.Expire != nil }, run: expire},
}

func isPerRun(o Options) bool { return o.Capabilities.PerRun }

func isShared(o Options) bool { return !o.Capabilities.PerRun }

func revokesAtOnce(o Options) bool {
	return o.Capabilities.PerRun && o.Capabilities.Revocation == credential.RevocationImmediate
}

// Run tests a provider. Promises that its capabilities exclude are left out.
func Run(t *testing.T, o Options) {
	for _, c := range checks {
		if c.applies != nil && !c.applies(o) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if err := o.verify(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
}

// verify runs one check and sees that nothing is left of it.
func (o Options) verify(ctx context.Context, c check) (err error) {
	s := &suite{Options: o, check: c.name}
	before, err := s.left(ctx)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.cleanUp(context.WithoutCancel(ctx)))
		after, leftErr := s.left(context.WithoutCancel(ctx))
		err = errors.Join(err, leftErr)
		s.close(0)
		if err == nil && revokesAtOnce(o) && after != before {
			err = fmt.Errorf("%d things were at the source before the test, and %d are after everything was revoked", before, after)
		}
	}()
	if s.provider, err = s.open(o.New); err != nil {
		return err
	}
	return c.run(ctx, s)
}

// suite is what a check works with.
type suite struct {
	Options
	check    string
	provider credential.Provider
	requests []credential.Request
	sessions []Session
	// opened are all providers.
	opened []credential.Provider
}

// open returns a provider that is closed in the end.
func (s *suite) open(open func() (credential.Provider, error)) (credential.Provider, error) {
	p, err := open()
	if err == nil {
		s.opened = append(s.opened, p)
	}
	return p, err
}

// close closes all providers but the first ones.
func (s *suite) close(except int) {
	for _, p := range s.opened[except:] {
		if closer, ok := p.(interface{ Close() }); ok {
			closer.Close()
		}
	}
	s.opened = s.opened[:except]
}

// left returns how many things there are at the source.
func (s *suite) left(ctx context.Context) (int, error) {
	if s.Left == nil {
		return 0, nil
	}
	return s.Left(ctx)
}

// request returns the request of a run. Each check has runs of its own.
func (s *suite) request(run string) credential.Request {
	r := s.Request
	r.Run = credential.Run{Namespace: "tenant-acme", Name: "job-" + run, UID: types.UID(strings.ReplaceAll(s.check, " ", "-") + "-" + run)}
	r.Handle = credential.NewHandle(s.Cluster, s.Provider, r.Tenant.UID, r.Run.UID, r.Credential.Name)
	s.requests = append(s.requests, r)
	return r
}

// cleanUp revokes everything.
func (s *suite) cleanUp(ctx context.Context) error {
	for _, session := range s.sessions {
		session.Close()
	}
	if s.provider == nil {
		return nil
	}
	var errs []error
	for _, r := range s.requests {
		if err := s.provider.Revoke(ctx, r.Handle); err != nil {
			errs = append(errs, fmt.Errorf("revoking %s at the end: %w", r.Run.UID, err))
		}
	}
	return errors.Join(errs...)
}

// accepted returns a session, or an error when the source refuses the credential.
func (s *suite) accepted(ctx context.Context, c credential.Credential) (Session, error) {
	session, err := s.Login(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("logging in: %w", err)
	}
	s.sessions = append(s.sessions, session)
	return session, nil
}

// refused returns an error unless the source refuses the credential.
func (s *suite) refused(ctx context.Context, c credential.Credential, what string) error {
	session, err := s.Login(ctx, c)
	if err == nil {
		session.Close()
		return fmt.Errorf("%s is accepted", what)
	}
	if !errors.Is(err, ErrRefused) {
		return fmt.Errorf("logging in: %w", err)
	}
	return nil
}

// ended returns an error unless the session has ended.
func ended(ctx context.Context, session Session, what string) error {
	if session.Use(ctx) == nil {
		return fmt.Errorf("%s goes on", what)
	}
	return nil
}

// listed returns the run of a handle, as another process of the operator sees it.
func (s *suite) listed(ctx context.Context, h credential.Handle) (run types.UID, found bool, err error) {
	other, err := s.open(s.New)
	if err != nil {
		return "", false, err
	}
	all, err := other.List(ctx)
	if err != nil {
		return "", false, fmt.Errorf("listing: %w", err)
	}
	for _, i := range all {
		if i.Handle == h {
			if found {
				return "", false, fmt.Errorf("%s is listed twice", h)
			}
			run, found = i.Run.UID, true
		}
	}
	return run, found, nil
}

// expectListed returns an error unless the credential is listed, with its run, or is not.
func (s *suite) expectListed(ctx context.Context, r credential.Request, want bool) error {
	run, found, err := s.listed(ctx, r.Handle)
	switch {
	case err != nil:
		return err
	case found != want:
		return fmt.Errorf("listed: %t, want %t", found, want)
	case found && run != r.Run.UID:
		return fmt.Errorf("it is listed for the run %q, and was issued for %q", run, r.Run.UID)
	}
	return nil
}

// tolerance is by how much the clocks of a source and of the tests may differ.
const tolerance = time.Minute
