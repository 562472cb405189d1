package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tenantry/tenantry/internal/credential"
)

const (
	// concurrent is how many calls are made at the same time.
	concurrent = 4
	// maxSteps is how many steps a provider may take with the source.
	maxSteps = 200
)

func issueOnce(ctx context.Context, s *suite) error {
	c, err := s.provider.Issue(ctx, s.request("1"))
	if err != nil {
		return err
	}
	if (len(c.Values) == 0) == (c.Token == nil) {
		return errors.New("it must have either Values or Token")
	}
	if c.Type == "" {
		return errors.New("it has no Type")
	}
	for _, key := range []string{"type", "provider"} {
		if _, ok := c.Values[key]; ok {
			return fmt.Errorf("the key %s is not the provider's to set", key)
		}
	}
	_, err = s.accepted(ctx, c)
	return err
}

func cancelledContext(ctx context.Context, s *suite) error {
	r := s.request("1")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := s.provider.Issue(cancelled, r)
	if err == nil && s.Capabilities.PerRun {
		return errors.New("Issue ignores that its context was cancelled")
	}
	return nil
}

func printsNothing(ctx context.Context, s *suite) error {
	c, err := s.provider.Issue(ctx, s.request("1"))
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		return err
	}
	printed := fmt.Sprintf("%v %+v %#v %s", c, c, c, encoded)
	for key, value := range c.Values {
		if len(value) >= 16 && strings.Contains(printed, string(value)) {
			return fmt.Errorf("the value of %s is printed", key)
		}
	}
	return nil
}

func listsNothing(ctx context.Context, s *suite) error {
	r := s.request("1")
	if _, err := s.provider.Issue(ctx, r); err != nil {
		return err
	}
	return s.expectListed(ctx, r, false)
}

func revokeAbsent(ctx context.Context, s *suite) error {
	return s.provider.Revoke(ctx, s.request("absent").Handle)
}

func expiryAsRequested(ctx context.Context, s *suite) error {
	c, err := s.provider.Issue(ctx, s.request("1"))
	if err != nil {
		return err
	}
	if c.ExpirationTime.IsZero() {
		return errors.New("it never expires")
	}
	left := time.Until(c.ExpirationTime)
	if left < s.Request.Lifetime-tolerance || left > s.Request.Lifetime+tolerance {
		return fmt.Errorf("it expires in %s, want %s", left, s.Request.Lifetime)
	}
	return nil
}

func issueAgain(ctx context.Context, s *suite) error {
	r := s.request("1")
	first, err := s.provider.Issue(ctx, r)
	if err != nil {
		return err
	}
	old, err := s.accepted(ctx, first)
	if err != nil {
		return err
	}
	again, err := s.open(s.New)
	if err != nil {
		return err
	}
	second, err := again.Issue(ctx, r)
	if err != nil {
		return fmt.Errorf("issuing again: %w", err)
	}
	if err := s.refused(ctx, first, "the replaced secret"); err != nil {
		return err
	}
	if revokesAtOnce(s.Options) {
		if err := ended(ctx, old, "a session of the replaced secret"); err != nil {
			return err
		}
	}
	if _, err := s.accepted(ctx, second); err != nil {
		return err
	}
	return s.expectListed(ctx, r, true)
}

// concurrently calls a function several times at once, each time with another process's provider.
func (s *suite) concurrently(call func(p credential.Provider) error) error {
	var (
		group sync.WaitGroup
		errs  [concurrent]error
	)
	for n := range concurrent {
		p, err := s.open(s.New)
		if err != nil {
			return err
		}
		group.Go(func() { errs[n] = call(p) })
	}
	group.Wait()
	return errors.Join(errs[:]...)
}

func issueConcurrently(ctx context.Context, s *suite) error {
	var (
		mutex  sync.Mutex
		issued []credential.Credential
	)
	r := s.request("1")
	err := s.concurrently(func(p credential.Provider) error {
		c, err := p.Issue(ctx, r)
		mutex.Lock()
		defer mutex.Unlock()
		if err == nil {
			issued = append(issued, c)
		}
		return err
	})
	if err != nil {
		return err
	}
	live := 0
	for _, c := range issued {
		if s.refused(ctx, c, "") != nil {
			live++
		}
	}
	if live != 1 {
		return fmt.Errorf("%d secrets of one handle are accepted, want 1", live)
	}
	return s.expectListed(ctx, r, true)
}

func issueForTwo(ctx context.Context, s *suite) error {
	one, two := s.request("1"), s.request("2")
	first, err := s.provider.Issue(ctx, one)
	if err != nil {
		return err
	}
	second, err := s.provider.Issue(ctx, two)
	if err != nil {
		return err
	}
	if equal(first, second) {
		return errors.New("two runs have the same values")
	}
	if err := s.provider.Revoke(ctx, two.Handle); err != nil {
		return err
	}
	if _, err := s.accepted(ctx, first); err != nil {
		return fmt.Errorf("after the other run's was revoked: %w", err)
	}
	return s.expectListed(ctx, one, true)
}

func equal(a, b credential.Credential) bool {
	for key, value := range a.Values {
		if !bytes.Equal(value, b.Values[key]) {
			return false
		}
	}
	return true
}

// issueAndUse issues a credential and opens a session with it.
func (s *suite) issueAndUse(ctx context.Context, r credential.Request) (credential.Credential, Session, error) {
	c, err := s.provider.Issue(ctx, r)
	if err != nil {
		return c, nil, err
	}
	session, err := s.accepted(ctx, c)
	return c, session, err
}

// expectDead returns an error unless nothing of the credential lives.
func (s *suite) expectDead(ctx context.Context, r credential.Request, c credential.Credential, session Session) error {
	return errors.Join(
		s.refused(ctx, c, "the revoked secret"),
		ended(ctx, session, "a session of the revoked secret"),
		s.expectListed(ctx, r, false))
}

func revokeOnce(ctx context.Context, s *suite) error {
	r := s.request("1")
	c, session, err := s.issueAndUse(ctx, r)
	if err != nil {
		return err
	}
	if err := s.provider.Revoke(ctx, r.Handle); err != nil {
		return err
	}
	return s.expectDead(ctx, r, c, session)
}

func revokeAgain(ctx context.Context, s *suite) error {
	if err := revokeOnce(ctx, s); err != nil {
		return err
	}
	again, err := s.open(s.New)
	if err != nil {
		return err
	}
	return again.Revoke(ctx, s.requests[0].Handle)
}

func revokeConcurrently(ctx context.Context, s *suite) error {
	r := s.request("1")
	c, session, err := s.issueAndUse(ctx, r)
	if err != nil {
		return err
	}
	if err := s.concurrently(func(p credential.Provider) error { return p.Revoke(ctx, r.Handle) }); err != nil {
		return err
	}
	return s.expectDead(ctx, r, c, session)
}

func issueAfterRevoke(ctx context.Context, s *suite) error {
	if err := revokeOnce(ctx, s); err != nil {
		return err
	}
	_, _, err := s.issueAndUse(ctx, s.requests[0])
	if err != nil {
		return fmt.Errorf("issuing again: %w", err)
	}
	return s.expectListed(ctx, s.requests[0], true)
}

func listLiving(ctx context.Context, s *suite) error {
	living, revoked := s.request("living"), s.request("revoked")
	for _, r := range []credential.Request{living, revoked} {
		if err := s.expectListed(ctx, r, false); err != nil {
			return fmt.Errorf("before it was issued: %w", err)
		}
		if _, err := s.provider.Issue(ctx, r); err != nil {
			return err
		}
		if err := s.expectListed(ctx, r, true); err != nil {
			return err
		}
	}
	if err := s.provider.Revoke(ctx, revoked.Handle); err != nil {
		return err
	}
	return errors.Join(s.expectListed(ctx, living, true), s.expectListed(ctx, revoked, false))
}

func listOfStranger(ctx context.Context, s *suite) error {
	stranger, err := s.open(s.Stranger)
	if err != nil {
		return err
	}
	r := s.request("1")
	if _, err := s.provider.Issue(ctx, r); err != nil {
		return err
	}
	all, err := stranger.List(ctx)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.Handle == r.Handle {
			return errors.New("another cluster lists it")
		}
	}
	return nil
}

func expire(ctx context.Context, s *suite) error {
	r := s.request("1")
	c, err := s.provider.Issue(ctx, r)
	if err != nil {
		return err
	}
	if err := s.Expire(ctx, r.Handle); err != nil {
		return err
	}
	return s.refused(ctx, c, "the expired secret")
}
