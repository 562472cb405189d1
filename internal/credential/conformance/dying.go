package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/tenantry/tenantry/internal/credential"
)

// dying returns a provider that dies at a step.
func (s *suite) dying(step int) (p credential.Provider, died func() bool, err error) {
	p, err = s.open(func() (p credential.Provider, err error) {
		p, died, err = s.Dying(step)
		return p, err
	})
	return p, died, err
}

// eachStep has a provider die at each of its steps, until it dies no more.
func (s *suite) eachStep(die func(step int, p credential.Provider) error) error {
	for step := 1; step <= maxSteps; step++ {
		opened := len(s.opened)
		p, died, err := s.dying(step)
		if err != nil {
			return err
		}
		if err := die(step, p); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		s.close(opened)
		if !died() {
			if step == 1 {
				return errors.New("it has died at no step, so nothing was tested")
			}
			return nil
		}
	}
	return fmt.Errorf("it takes more than %d steps", maxSteps)
}

// dieIssuing has the process die in Issue. Then either another process issues it for the same run, or the sweeper revokes what is
// listed: both must leave nothing behind.
func dieIssuing(ctx context.Context, s *suite) error {
	return s.eachStep(func(step int, p credential.Provider) error {
		reissued, swept := s.request(fmt.Sprint("reissued-", step)), s.request(fmt.Sprint("swept-", step))
		lost, lostErr := p.Issue(ctx, reissued)
		c, session, err := s.issueAndUse(ctx, reissued)
		if err != nil {
			return fmt.Errorf("issuing after that: %w", err)
		}
		if lostErr == nil {
			if err := s.refused(ctx, lost, "the secret that was issued before"); err != nil {
				return err
			}
		}
		if err := s.expectListed(ctx, reissued, true); err != nil {
			return err
		}
		if err := s.provider.Revoke(ctx, reissued.Handle); err != nil {
			return fmt.Errorf("revoking after that: %w", err)
		}
		if err := s.expectDead(ctx, reissued, c, session); err != nil {
			return err
		}

		before, err := s.left(ctx)
		if err != nil {
			return err
		}
		if p, _, err = s.dying(step); err != nil {
			return err
		}
		_, _ = p.Issue(ctx, swept)
		return s.sweep(ctx, swept, before)
	})
}

// sweep revokes a credential if it is listed. After that there must be as much at the source as before it was issued.
func (s *suite) sweep(ctx context.Context, r credential.Request, before int) error {
	_, found, err := s.listed(ctx, r.Handle)
	if err != nil {
		return err
	}
	if found {
		if err := s.provider.Revoke(ctx, r.Handle); err != nil {
			return fmt.Errorf("revoking what is listed: %w", err)
		}
	}
	after, err := s.left(ctx)
	if err == nil && after != before {
		return fmt.Errorf("%d things were at the source before it was issued, and %d are after what was listed was revoked", before, after)
	}
	return errors.Join(err, s.expectListed(ctx, r, false))
}

// dieIssuingAgain has the process die when it replaces a secret.
func dieIssuingAgain(ctx context.Context, s *suite) error {
	return s.eachStep(func(step int, p credential.Provider) error {
		r := s.request(fmt.Sprint("run-", step))
		first, old, err := s.issueAndUse(ctx, r)
		if err != nil {
			return err
		}
		second, secondErr := p.Issue(ctx, r)
		third, session, err := s.issueAndUse(ctx, r)
		if err != nil {
			return fmt.Errorf("issuing after that: %w", err)
		}
		errs := []error{s.refused(ctx, first, "the first secret"), ended(ctx, old, "a session of the first secret")}
		if secondErr == nil {
			errs = append(errs, s.refused(ctx, second, "the second secret"))
		}
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if err := s.provider.Revoke(ctx, r.Handle); err != nil {
			return fmt.Errorf("revoking after that: %w", err)
		}
		return s.expectDead(ctx, r, third, session)
	})
}

// dieRevoking has the process die in Revoke. As long as something lives, it must be listed, and another process revokes it.
func dieRevoking(ctx context.Context, s *suite) error {
	return s.eachStep(func(step int, p credential.Provider) error {
		r := s.request(fmt.Sprint("run-", step))
		before, err := s.left(ctx)
		if err != nil {
			return err
		}
		c, session, err := s.issueAndUse(ctx, r)
		if err != nil {
			return err
		}
		revokeErr := p.Revoke(ctx, r.Handle)
		_, found, err := s.listed(ctx, r.Handle)
		if err != nil {
			return err
		}
		dead := errors.Join(s.refused(ctx, c, "the secret"), ended(ctx, session, "a session"))
		if dead != nil && revokeErr == nil {
			return fmt.Errorf("it says that it has revoked it, and %w", dead)
		}
		if dead != nil && !found {
			return fmt.Errorf("it is not listed any more, and %w", dead)
		}
		if found {
			if err := s.provider.Revoke(ctx, r.Handle); err != nil {
				return fmt.Errorf("revoking after that: %w", err)
			}
		}
		after, err := s.left(ctx)
		if err == nil && after != before {
			err = fmt.Errorf("%d things were at the source before it was issued, and %d are after it was revoked", before, after)
		}
		return errors.Join(err, s.expectDead(ctx, r, c, session))
	})
}
