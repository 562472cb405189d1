package postgres

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// tracer calls a function before each statement.
type tracer func(ctx context.Context, statement string) context.Context

func (f tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return f(ctx, data.SQL)
}

func (tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// onStatement has a function called before each statement.
func onStatement(f func(statement string)) func(*pgxpool.Config) {
	return func(c *pgxpool.Config) {
		c.ConnConfig.Tracer = tracer(func(ctx context.Context, statement string) context.Context {
			f(statement)
			return ctx
		})
	}
}

// process is one that dies at a statement. With lost, the server executes that statement, and its answer does not arrive.
type process struct {
	dieAt int
	lost  bool

	mutex      sync.Mutex
	statements int
}

var errDead = errors.New("the process is dead")

// dead says whether it has died.
func (p *process) dead() bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.statements >= p.dieAt
}

// counted says whether a statement is one of the process's steps. What a new connection does first is the same for each.
func counted(statement string) bool {
	return statement != "SELECT tenantry.version()" && statement != "SET ROLE tenantry_operator" &&
		statement != "SELECT current_setting('server_version_num')::integer"
}

// start counts a statement. When the process is dead, it does not reach the server.
func (p *process) start(ctx context.Context, statement string) context.Context {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !counted(statement) && p.statements < p.dieAt {
		return ctx
	}
	p.statements++
	if p.statements > p.dieAt || p.statements == p.dieAt && !p.lost {
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		return cancelled
	}
	return ctx
}

// connect changes the settings of a pool, so that its connections end with the process.
func (p *process) connect(c *pgxpool.Config) {
	c.ConnConfig.Tracer = tracer(p.start)
	c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if p.dead() {
			return nil, errDead
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return &processConn{Conn: conn, process: p}, err
	}
}

// processConn is a connection of a process.
type processConn struct {
	net.Conn
	process *process
}

// Read waits for what the server says. A dead process does not get it.
func (c *processConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.process.dead() {
		_ = c.Close()
		return 0, errDead
	}
	return n, err
}

// exec executes statements on a connection of their own.
func exec(t testing.TB, config *pgx.ConnConfig, statements string) {
	t.Helper()
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.PgConn().Exec(context.Background(), statements).ReadAll(); err != nil {
		t.Fatalf("executing %s: %v", statements, err)
	}
}
