package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/credential"
)

const (
	// endPasses is how often sessions are looked for in one call, with longer and longer pauses, about three seconds in all.
	endPasses = 60
	// fenceAttempts is how often the sessions are ended that are in the way of fencing their role.
	fenceAttempts = 20
	// dropAttempts is how often a role is dropped to which other runs grant something meanwhile.
	dropAttempts = 10
	// evictAfter is how long a step waits for a lock until somebody looks for who has it, and the pause between two such looks.
	evictAfter = 100 * time.Millisecond
	// largeObjectBatch is how many large objects are removed at once. Each takes a lock, and the server has about 10,000 of them.
	largeObjectBatch = 1000
)

// Revoke ends what a run's role does, and drops the role. Each step is committed by itself: whatever comes between them, the next
// call goes on from there.
func (p *Provider) Revoke(ctx context.Context, h credential.Handle) error {
	role, err := roleName(h)
	if err != nil {
		return err
	}
	return p.revoke(ctx, role)
}

func (p *Provider) revoke(ctx context.Context, role string) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	for _, step := range []func(context.Context, string) error{p.silence, p.drop, p.verifyRemoved} {
		if err := step(ctx, role); err != nil {
			return p.describe(caller, err, "revoking credential "+role)
		}
	}
	return nil
}

// silence makes that nobody can log in with a role, and ends all of its sessions.
func (p *Provider) silence(ctx context.Context, role string) error {
	id, err := p.fence(ctx, role)
	if err != nil || id == nil {
		return err
	}
	if err := p.endSessions(ctx, *id); err != nil {
		return err
	}
	return p.rollBackPrepared(ctx, p.pool, role)
}

// fence takes the role's login and memberships away, and returns its OID, or nil when it does not exist. A session of the role can be
// in the way, with a transaction that changes the role's own password. It is ended, and can't come back as fast as this goes on.
func (p *Provider) fence(ctx context.Context, role string) (*uint32, error) {
	var (
		id  *uint32
		err error
	)
	for range fenceAttempts {
		err = p.try(ctx, func() error { return p.pool.QueryRow(ctx, "SELECT tenantry.fence($1)", role).Scan(&id) })
		if err == nil || ctx.Err() != nil || !hasCode(err, codeLockTimeout) && !isConflict(err) {
			return id, err
		}
		if err := p.endOnce(ctx, role); err != nil {
			return nil, err
		}
		if err := p.rollBackPrepared(ctx, p.pool, role); err != nil {
			return nil, err
		}
	}
	return id, err
}

// endSessions ends the sessions of a role and returns when none is left.
func (p *Provider) endSessions(ctx context.Context, id uint32) error {
	var ended bool
	err := p.try(ctx, func() error {
		return p.pool.QueryRow(ctx, "SELECT tenantry.end_sessions($1, $2)", id, endPasses).Scan(&ended)
	})
	if err == nil && !ended {
		return credential.Transientf(v1alpha1.ReasonServerError, "a session does not end")
	}
	return err
}

// rollBackPrepared rolls back the transactions that a role has prepared. They have locks, and no session. Only the role itself may.
func (p *Provider) rollBackPrepared(ctx context.Context, there querier, role string) error {
	type prepared struct{ Database, Rollback string }
	// The server quotes what the tenant has chosen.
	query := "SELECT database, format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts WHERE owner = $1"
	rows, err := there.Query(ctx, query, role)
	if err != nil {
		return err
	}
	transactions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[prepared])
	if err != nil {
		return err
	}
	for _, t := range transactions {
		err := p.in(ctx, t.Database, func(conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, "SET ROLE "+pgx.Identifier{role}.Sanitize()); err != nil {
				return err
			}
			_, err := conn.Exec(ctx, t.Rollback)
			return err
		})
		if err != nil && !hasCode(err, codeUnknownObject) { // somebody else has done it
			return err
		}
	}
	return nil
}

// drop drops a role, with all that it owns. Another run may grant it something, or have that in an open transaction: then it is ended.
func (p *Provider) drop(ctx context.Context, role string) error {
	var err error
	for range dropAttempts {
		if err = p.dropOwned(ctx, role); err != nil {
			return err
		}
		if err = p.remove(ctx, role); !hasCode(err, codeDependentObjects) {
			return err
		}
	}
	return credential.Transientf(v1alpha1.ReasonServerError, "the role owns something again (%s)", codeDependentObjects)
}

// dropOwned drops what a role owns, and what was granted to it, in all databases. Runs may create large objects, and nothing else.
func (p *Provider) dropOwned(ctx context.Context, role string) error {
	query := `SELECT DISTINCT coalesce(d.datname, $2) FROM pg_shdepend s LEFT JOIN pg_database d ON d.oid = s.dbid
		WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)`
	rows, err := p.pool.Query(ctx, query, role, p.Database)
	if err != nil {
		return err
	}
	databases, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, database := range databases {
		err := p.try(ctx, func() error {
			return p.in(ctx, database, func(conn *pgx.Conn) error {
				if err := p.endGrants(ctx, conn, role); err != nil {
					return err
				}
				return p.evicting(ctx, conn, func() error { return dropOwnedIn(ctx, conn, role) })
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// largeObjects are those that a role owns, and those of other runs of which the role has been granted something.
const largeObjects = `FROM pg_largeobject_metadata l JOIN pg_roles owner ON owner.oid = l.lomowner
	WHERE owner.rolname = $1 OR starts_with(owner.rolname, '` + rolePrefix + `') AND l.oid IN (SELECT s.objid FROM pg_shdepend s
		WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)
			AND s.classid = 'pg_largeobject'::regclass AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))`

// endGrants ends the sessions of other runs that have granted a role large objects, and gives the operator their rights.
func (p *Provider) endGrants(ctx context.Context, conn *pgx.Conn, role string) error {
	rows, err := conn.Query(ctx, "SELECT DISTINCT owner.rolname::text "+largeObjects, role)
	if err != nil {
		return err
	}
	owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, owner := range owners {
		if owner == role {
			continue // Its sessions have ended.
		}
		if err := p.endOnce(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// endOnce ends the sessions that a role has now.
func (p *Provider) endOnce(ctx context.Context, role string) error {
	var taken *uint32
	if err := p.try(ctx, func() error { return p.pool.QueryRow(ctx, "SELECT tenantry.take($1)", role).Scan(&taken) }); err != nil || taken == nil {
		return err
	}
	_, err := p.pool.Exec(ctx, "SELECT tenantry.end_sessions($1, 1)", taken)
	return err
}

func dropOwnedIn(ctx context.Context, conn *pgx.Conn, role string) error {
	query := "SELECT count(lo_unlink(oid)) FROM (SELECT l.oid " + largeObjects + " LIMIT $2) batch"
	for removed := largeObjectBatch; removed == largeObjectBatch; {
		if err := conn.QueryRow(ctx, query, role, largeObjectBatch).Scan(&removed); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, "DROP OWNED BY "+pgx.Identifier{role}.Sanitize())
	return err
}

// remove drops the role, with the row that says whose it was.
func (p *Provider) remove(ctx context.Context, role string) error {
	return p.try(ctx, func() error {
		return p.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
			return p.evicting(ctx, conn.Conn(), func() error {
				_, err := conn.Exec(ctx, "SELECT tenantry.remove($1)", role)
				return err
			})
		})
	})
}

// evicting does a step on a connection. While the step waits for a lock, the sessions of other runs are ended that have it.
func (p *Provider) evicting(ctx context.Context, conn *pgx.Conn, step func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.evict(ctx, conn.PgConn().PID())
	}()
	err := step()
	cancel()
	<-ended
	return err
}

// evict ends whoever is in the way of a session, until ctx ends. It has a connection of its own, since all of the pool's may wait.
func (p *Provider) evict(ctx context.Context, waiting uint32) {
	// It ends with ctx, which is no failure.
	_ = wait.PollUntilContextCancel(ctx, evictAfter, false, func(ctx context.Context) (bool, error) {
		p.evicts.Lock() // One connection is enough for all.
		defer p.evicts.Unlock()
		// What fails is tried again, or what waits times out.
		_ = p.in(ctx, p.Database, func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, "SELECT tenantry.evict($1)", waiting)
			if err != nil {
				return err
			}
			owners, err := pgx.CollectRows(rows, pgx.RowTo[string])
			for _, owner := range owners {
				err = errors.Join(err, p.rollBackPrepared(ctx, conn, owner))
			}
			return err
		})
		return false, nil
	})
}

// verifyRemoved sees that the role is gone: somebody else may have issued it again at the same time.
func (p *Provider) verifyRemoved(ctx context.Context, role string) error {
	var gone bool
	query := "SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1) AND NOT EXISTS (SELECT FROM tenantry.runs WHERE role = $1)"
	err := p.try(ctx, func() error { return p.pool.QueryRow(ctx, query, role).Scan(&gone) })
	if err == nil && !gone {
		return credential.Transientf(v1alpha1.ReasonServerError, "it has been issued again")
	}
	return err
}

// querier is a pool or a connection.
type querier interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
}

// in runs something on a connection of its own to a database.
func (p *Provider) in(ctx context.Context, database string, run func(*pgx.Conn) error) error {
	conn, err := p.elsewhere(ctx, database)
	if err != nil {
		return err
	}
	defer closeConnection(conn)
	return run(conn)
}
