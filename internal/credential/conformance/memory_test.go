package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/tenantry/tenantry/internal/credential"
)

// source is a source of credentials in memory. Its faults break a promise each.
type source struct {
	mutex       sync.Mutex
	faults      map[string]bool
	credentials map[credential.Handle]*entry
	tombstones  map[credential.Handle]bool
	shared      bool
}

type entry struct {
	cluster  types.UID
	run      types.UID
	secrets  []string
	sessions []*memorySession
	listed   bool
	expired  bool
}

type memorySession struct{ ended bool }

func (s *memorySession) Use(context.Context) error {
	if s.ended {
		return errors.New("it has ended")
	}
	return nil
}

func (s *memorySession) Close() { s.ended = true }

func newSource(shared bool, faults ...string) *source {
	s := &source{shared: shared, faults: map[string]bool{},
		credentials: map[credential.Handle]*entry{}, tombstones: map[credential.Handle]bool{}}
	for _, fault := range faults {
		s.faults[fault] = true
	}
	return s
}

func (s *source) login(_ context.Context, c credential.Credential) (Session, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.shared {
		return &memorySession{}, nil
	}
	for _, e := range s.credentials {
		if !e.expired && slices.Contains(e.secrets, string(c.Values["password"])) {
			session := &memorySession{}
			e.sessions = append(e.sessions, session)
			return session, nil
		}
	}
	return nil, ErrRefused
}

// memory is a provider of a source.
type memory struct {
	*source
	cluster types.UID
	// dieAt is the step at which the process dies. Zero means never.
	dieAt, steps int
	// own are the handles that this process has issued.
	own map[credential.Handle]types.UID
}

func (s *source) provider(cluster types.UID) *memory {
	return &memory{source: s, cluster: cluster, own: map[credential.Handle]types.UID{}}
}

var errDead = errors.New("the process is dead")

// step is something that happens at the source, unless the process is dead.
func (m *memory) step(do func()) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.steps++
	if m.dieAt > 0 && m.steps >= m.dieAt {
		return errDead
	}
	do()
	return nil
}

func (m *memory) died() bool { return m.dieAt > 0 && m.steps >= m.dieAt }

func (m *memory) perform(steps ...func()) error {
	for _, s := range steps {
		if err := m.step(s); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Issue(ctx context.Context, r credential.Request) (credential.Credential, error) {
	if ctx.Err() != nil && !m.faults["ignores its context"] {
		return credential.Credential{}, ctx.Err()
	}
	if m.shared {
		return credential.Credential{Type: "shared", Values: credential.Values{"password": []byte("the tenant's own password")}}, nil
	}
	secret := rand.Text()
	if m.faults["one secret for all"] {
		secret = "a secret of everybody"
	}
	issued := credential.Credential{Type: "memory", Values: credential.Values{"password": []byte(secret)},
		ExpirationTime: time.Now().Add(r.Lifetime)}
	if m.faults["prints"] {
		issued.Type = secret
	}
	if m.faults["never expires"] {
		issued.ExpirationTime = time.Time{}
	}
	if m.faults["has no type"] {
		issued.Type = ""
	}
	m.own[r.Handle] = r.Run.UID
	if m.tombstones[r.Handle] && m.faults["never again"] {
		return credential.Credential{}, errors.New("it was revoked")
	}
	var e *entry
	create := func() {
		if e = m.credentials[r.Handle]; e == nil {
			e = &entry{cluster: m.cluster, run: r.Run.UID}
			m.credentials[r.Handle] = e
		}
	}
	list := func() { e.listed = true }
	end := func() {
		if !m.faults["keeps sessions of replaced secrets"] {
			e.end()
		}
	}
	drop := func() {
		if !m.faults["keeps replaced secrets"] {
			e.secrets = nil
		}
	}
	add := func() { e.secrets = append(e.secrets, secret); e.expired = false }
	if m.faults["forgets a secret when it dies"] {
		dropPrevious := func() {
			if n := len(e.secrets); n > 1 {
				e.secrets = slices.Delete(e.secrets, n-2, n-1)
			}
		}
		return issued, m.perform(func() { create(); list() }, add, dropPrevious, end)
	}
	if m.faults["lists late"] {
		return issued, m.perform(create, end, drop, add, list)
	}
	if m.faults["is not atomic"] {
		return issued, m.perform(func() { create(); list() }, func() { end(); drop() }, add)
	}
	return issued, m.perform(func() { create(); list(); end(); drop(); add() })
}

func (e *entry) end() {
	for _, s := range e.sessions {
		s.ended = true
	}
}

func (m *memory) Revoke(_ context.Context, h credential.Handle) error {
	if m.shared {
		return nil
	}
	m.mutex.Lock()
	e := m.credentials[h]
	m.mutex.Unlock()
	if e == nil {
		if m.faults["absent is an error"] {
			return errors.New("there is no such credential")
		}
		return nil
	}
	disable := func() { e.secrets = nil }
	end := func() {
		if !m.faults["keeps sessions"] {
			e.end()
		}
	}
	unlist := func() { e.listed = false }
	remove := func() {
		if !m.faults["leaves something"] {
			delete(m.credentials, h)
		}
		m.tombstones[h] = true
		if m.faults["revokes everybody"] {
			for _, other := range m.credentials {
				other.secrets = nil
			}
		}
	}
	switch {
	case m.faults["unlists early"]:
		return m.perform(unlist, disable, end, remove)
	case m.faults["keeps the secret"]:
		return m.perform(end, unlist)
	}
	return m.perform(disable, end, func() { unlist(); remove() })
}

func (m *memory) List(context.Context) ([]credential.Issued, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var all []credential.Issued
	if m.faults["lists from memory"] {
		for h, run := range m.own {
			all = append(all, credential.Issued{Handle: h, Run: credential.Run{UID: run}})
		}
		return all, nil
	}
	for h, e := range m.credentials {
		if e.listed && (e.cluster == m.cluster || m.faults["lists everybody's"]) {
			i := credential.Issued{Handle: h, Run: credential.Run{UID: e.run}}
			if m.faults["lists no run"] {
				i.Run.UID = ""
			}
			all = append(all, i)
		}
	}
	if m.faults["lists what is the tenant's own"] {
		for h := range m.credentials {
			all = append(all, credential.Issued{Handle: h})
		}
	}
	return all, nil
}

// options are those of a source in memory.
func (s *source) options() Options {
	capabilities := credential.Capabilities{PerRun: true, Revocation: credential.RevocationImmediate}
	if s.shared {
		capabilities = credential.Capabilities{Revocation: credential.RevocationNone}
	}
	return Options{
		Capabilities: capabilities,
		Cluster:      "cluster", Provider: "provider",
		Request:  credential.Request{Tenant: credential.Tenant{UID: "tenant"}, Lifetime: time.Hour},
		New:      func() (credential.Provider, error) { return s.provider("cluster"), nil },
		Stranger: func() (credential.Provider, error) { return s.provider("another"), nil },
		Login:    s.login,
		Dying: func(step int) (credential.Provider, func() bool, error) {
			m := s.provider("cluster")
			m.dieAt = step
			return m, m.died, nil
		},
		Expire: func(_ context.Context, h credential.Handle) error {
			e := s.credentials[h]
			if e == nil {
				return fmt.Errorf("there is no %s", h)
			}
			e.expired = !s.faults["never dies"]
			return nil
		},
		Left: func(context.Context) (int, error) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			return len(s.credentials), nil
		},
	}
}
